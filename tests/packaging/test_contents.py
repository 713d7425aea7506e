"""What setuptools is told to take is all that there is."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]


def left_out(package: Path, data: list[str]) -> set[str]:
    """Files that a wheel would not hold: data that nobody named, Python in a folder that is no package."""
    files = [
        path.relative_to(package) for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    return {
        path.as_posix()
        for path in files
        if (path.suffix != ".py" and path.as_posix() not in data)
        or (path.suffix == ".py" and path.parent / "__init__.py" not in files)
    }


@pytest.mark.parametrize("package", ["s4aug", "s4aug_train"])
def test_a_wheel_holds_every_file_of_a_package(package):
    assert left_out(ROOT / package, DATA[package]) == set()
    assert all((ROOT / package / name).is_file() for name in DATA[package])


def test_a_file_that_is_left_out_is_found(tmp_path):
    for name in ("__init__.py", "py.typed", "a.css", "room/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert left_out(tmp_path, ["py.typed"]) == {"a.css", "room/b.py"}
