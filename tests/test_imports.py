"""The floors: a file imports only from lower floors, or from its own room; the library never imports the trainer."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lowest floor first. A name with a trailing dot is a room: every file in that folder, which may import each other.
FLOORS = {
    "s4aug": [
        {"errors", "version"},
        {"checks", "linear", "drawing"},
        {"transform", "philox"},
        {"lifting"},
        {"sampling", "backends."},
        {"kernels"},
        {"operators"},
        {"warp"},
        {"view"},
        {"objective"},
        {"consistency", "perturbation"},
        {"integrations."},
    ],
    "s4aug_train": [
        {"errors"},
        {"files", "rng", "limits", "imports", "tensors", "launch", "ahead", "windows", "resampling"},
        {"config", "ranks", "run"},
        {"presets"},
        {"records"},
        {"data.", "model.", "guards"},
        {"methods.", "metrics", "panels", "segmenter", "boundary", "description", "deployed"},
        {"tta", "assessment", "parity"},
        {"comparison"},
        {"engine.", "inference", "diagnosis", "jobs"},
        {"exported"},
        {"formats"},
        {"evaluation", "doctor", "tensorboard", "preview", "prediction", "exporting", "reporting."},
        {"preparation"},
        {"training", "examination", "mapmaking", "showing"},
        {"gathering"},
        {"api", "reproduce."},
        {"cli."},
        {"__main__"},
    ],
}


def imports_of(source: str, module: str) -> set[str]:
    """Full names of the modules that a file imports, at the top or inside functions."""
    found = set()
    package = module.rsplit(".", 1)[0].split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{name}.{alias.name}" for alias in node.names} if node.module is None else {name}
    return found


def room(module: str) -> str:
    """`s4aug.backends.reference` is in the room `backends.`; `s4aug.warp` is the file `warp`."""
    parts = module.split(".")[1:]
    return f"{parts[0]}." if len(parts) > 1 or (ROOT / module.replace(".", "/")).is_dir() else (parts or [""])[0]


def floor_of(module: str) -> int | None:
    package = module.split(".")[0]
    for number, rooms in enumerate(FLOORS[package]):
        if room(module) in rooms:
            return number
    return None


def faults_of(source: str, module: str) -> list[str]:
    """What a file imports against the floors."""
    package, own = module.split(".")[0], floor_of(module)
    faults = []
    for name in imports_of(source, module):
        top = name.split(".")[0]
        if package == "s4aug" and top == "s4aug_train":
            faults.append(f"{module} imports the trainer ({name})")
        if top != package or name == package:
            continue
        other = floor_of(name)
        if own is None or other is None:
            faults.append(f"{module} or {name} is on no floor; add it to FLOORS")
        elif not (other < own or (room(name) == room(module) and room(name).endswith("."))):
            faults.append(f"{module} (floor {own}) imports {name} (floor {other})")
    return faults


def modules() -> list[tuple[str, Path]]:
    files = [path for package in FLOORS for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    # A package's own __init__ only re-exports, from its room.
    return [(name, path) for name, path in zip(names, files, strict=True) if not name.endswith("__init__")]


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_file_imports_only_from_lower_floors(module, path):
    assert faults_of(path.read_text(), module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("s4aug.transform", "from .warp import warp"),
        ("s4aug.transform", "def f():\n    from .view import View"),
        ("s4aug.view", "import s4aug_train"),
        ("s4aug.checks", "from . import sampling"),
        ("s4aug_train.data.pool", "from ..engine.loop import train"),
        ("s4aug_train.methods.s4net", "from ..inference import Piece"),
        ("s4aug_train.metrics", "from .methods import Batch"),
        ("s4aug_train.attic", "from .errors import DataError"),
    ],
)
def test_an_import_against_the_floors_is_found(module, source):
    assert faults_of(source, module)


def test_backends_never_import_each_other():
    backends = [path for path in (ROOT / "s4aug" / "backends").glob("*.py") if path.stem != "__init__"]
    names = {f"s4aug.backends.{path.stem}" for path in backends}
    for path in backends:
        assert not imports_of(path.read_text(), f"s4aug.backends.{path.stem}") & names


def test_the_library_loads_none_of_the_trainers_packages():
    code = (
        "import sys, s4aug\n"
        "heavy = ['numba', 'triton', 'kornia', 'rasterio', 'click', 'rich', 'torchvision', 's4aug_train', 'numpy']\n"
        "before = set(sys.modules)\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    loaded_by_torch = subprocess.run(
        [sys.executable, "-c", code.replace("import sys, s4aug", "import sys, torch")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded == loaded_by_torch


def test_package_initialisers_only_re_export():
    for package in FLOORS:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text()).body
            kinds = {type(node) for node in body[1:]}
            if path == ROOT / "s4aug_train" / "__init__.py":
                # It re-exports when it is asked: `s4aug-train --help` goes through it.
                kinds -= {ast.If, ast.Assign, ast.FunctionDef}
            assert kinds <= {ast.ImportFrom}, path
