"""The method of docs/add-a-method.md, as a user would write and run it."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from s4aug_train.cli import main

PAGE = Path(__file__).resolve().parents[3] / "docs" / "add-a-method.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with entropy.py, the working folder."""
    source = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    (tmp_path / "entropy.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_page_s_command_trains_it(folder, demo_folder):
    command = re.search(r"^s4aug-train (fit .*--method .*)$", PAGE.read_text(), re.MULTILINE)[1].split()
    command[command.index("demo")] = str(demo_folder)
    short = "--preset quick --weights none --labeled 4 --steps 3 --crop 64 --device cpu --out run"
    log = "--set train.log_every=1 --set train.window=64 --set train.stride=64"
    result = CliRunner().invoke(main, [*command, *short.split(), *log.split()])
    assert result.exit_code == 0, result.output
    assert "unlabelled" in result.output
    # It is said again when the run is resumed: a folder does not say what code is run.
    resumed = CliRunner().invoke(main, ["fit", "--out", "run", "--resume"])
    assert resumed.exit_code == 1
    assert "say so with --method entropy:make" in resumed.output
    assert CliRunner().invoke(main, ["fit", "--out", "run", "--resume", "--method", "entropy:make"]).exit_code == 0
    # Nor does a file of settings.
    other = CliRunner().invoke(main, ["fit", "--config", "run/config.yaml", "--out", "other"])
    assert other.exit_code == 1
    assert "say so with --method entropy:make" in other.output
