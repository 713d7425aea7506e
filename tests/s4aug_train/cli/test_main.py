"""The group of commands: loaded when they are called, and how errors of all kinds end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from s4aug import S4AugError
from s4aug_train.cli import main
from s4aug_train.cli.main import COMMANDS, told
from s4aug_train.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_help_names_every_command_by_its_first_line_and_loads_nothing_slow():
    code = (
        "import sys; from s4aug_train.cli import main; main(['--help'], standalone_mode=False);"
        "sys.exit(bool({'torch', 'numpy', 'kornia', 'rasterio', 'rich'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0
    context = click.Context(main)
    for name, text in COMMANDS.items():
        assert f"  {name}" in found.stdout
        assert main.get_command(context, name).help.startswith(text)
    assert main.list_commands(context) == list(COMMANDS)


SLOW = {"torch", "torchvision", "kornia", "rasterio", "numba", "triton", "numpy"}
MISTAKES = [
    (["fit", "--steps", "x"], 2, "'x' is not a valid integer"),
    (["fit", "--data", "demo", "--preset", "fast"], 2, "'fast' is not one of"),
    (["fit", "--data", "demo", "--method", "s4ent"], 2, "did you mean s4net?"),
    (["fit", "--out", "new"], 2, "--data is missing"),
    (["fit", "--data", "nowhere"], 1, "the data folder nowhere does not exist"),
    (["fit", "--data", "file"], 1, "file is a file; give the folder"),
    (["fit", "--data", "demo", "--classes", "nowhere"], 1, "--classes nowhere does not exist"),
    (["fit", "--data", "demo", "--split", "nowhere"], 1, "--split nowhere does not exist"),
    (["fit", "--data", "demo", "--config", "nowhere"], 1, "cannot read the settings in nowhere"),
    (["fit", "--data", "demo", "--set", "train.stepz=1"], 1, "did you mean train.steps?"),
    (["fit", "--data", "demo", "--out", "full"], 1, "--out full is not empty"),
    (["fit", "--resume", "nowhere"], 1, "nowhere does not exist; give a run folder"),
    (["evaluate", "nowhere"], 1, "nowhere does not exist; give a run folder"),
    (["evaluate", "file", "--against", "nowhere"], 1, "nowhere does not exist; give a run folder"),
    (["evaluate", "full"], 1, "the folder full holds no checkpoints/last.pt"),
    (["evaluate", "file", "--split", "nowhere"], 1, "--split nowhere does not exist"),
    (["evaluate", "file", "--data", "nowhere"], 1, "the data folder nowhere does not exist"),
    (["predict", "nowhere", "a.tif", "--out", "new"], 1, "nowhere does not exist; give a run folder"),
    (["report", "nowhere"], 1, "nowhere does not exist; give a run folder"),
    (["report", "file", "--data", "nowhere"], 1, "the data folder nowhere does not exist"),
    (["export", "nowhere", "--format", "onnx", "--out", "new.onnx"], 1, "nowhere does not exist; give a run folder"),
    (["export", "file", "--format", "onnx", "--out", "new.pt2"], 1, "--out new.pt2 must end in .onnx"),
    (["export", "file", "--format", "onnx", "--out", "new.onnx", "--data", "nowhere"], 1, "the data folder nowhere"),
    (["doctor", "--data", "nowhere"], 1, "the data folder nowhere does not exist"),
    (["doctor", "--data", "full", "--write-classes", "file"], 1, "--write-classes file exists"),
    (["split", "--data", "nowhere", "--out", "new"], 1, "the data folder nowhere does not exist"),
    (["split", "--data", "full", "--out", "file"], 1, "--out file exists"),
    (["reproduce", "table2", "--data", "nowhere", "--out", "new"], 1, "the data folder nowhere does not exist"),
    (["demo-data", "new", "--size", "9999"], 1, "size of a demo must be 32 to 4096"),
    (["preview", "--data", "nowhere", "--out", "new.png"], 1, "the data folder nowhere does not exist"),
]
SAID = """
import json, sys
from click.testing import CliRunner
from s4aug_train.cli import main
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, arguments)
    print(json.dumps([result.exit_code, result.output + result.stderr, [*sys.modules]]))
"""


def said(folder, calls):
    """Exit code, what was printed and what had been loaded by then, of calls in one fresh process."""
    command = [sys.executable, "-c", SAID, json.dumps(calls)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_help_and_mistakes_wait_for_nothing_slow(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    # Last, for its pictures in a terminal are made by numpy: so it is seen that what is loaded is seen.
    helped = [[name, "--help"] for name in COMMANDS if name != "preview"]
    found = said(tmp_path, [*helped, *(arguments for arguments, _, _ in MISTAKES)])
    for arguments, (code, text, loaded) in zip(helped, found, strict=False):
        assert code == 0, text
        assert f"Usage: main {arguments[0]}" in text
        assert not SLOW & {*loaded}, arguments
    for (arguments, code, told_), (found_code, text, loaded) in zip(MISTAKES, found[len(helped) :], strict=True):
        assert (found_code, told_ in " ".join(text.split())) == (code, True), (arguments, text)
        assert SLOW & {*loaded} == ({"numpy"} if arguments[0] == "preview" else set()), arguments
    assert sorted(tmp_path.rglob("*")) == before


def test_the_package_gives_its_names_when_they_are_asked_for():
    code = (
        "import sys, s4aug_train; assert 'torch' not in sys.modules; assert 'fit' in dir(s4aug_train);"
        "assert s4aug_train.fit.__module__ == 's4aug_train.api';"
        "assert {name for name in s4aug_train.HOMES if getattr(s4aug_train, name)} == set(s4aug_train.HOMES)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from s4aug_train import nothing")


def test_an_unknown_command_is_wrong_usage():
    result = CliRunner().invoke(main, ["train"])
    assert result.exit_code == 2
    assert "No such command 'train'" in result.output


def test_wrong_usage_is_told_in_one_line():
    result = CliRunner().invoke(main, ["export", "run", "--out", "x"])
    assert result.exit_code == 2
    assert (
        result.stderr.splitlines()[-1]
        == "Error: Missing option '--format'. Choose from: onnx, torch-export, safetensors"
    )
    result = CliRunner().invoke(main, ["fit", "--steps", "9" * 5000])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()[-1]) < 2100


class FromInductor(RuntimeError):
    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("lower it"), "lower it"),
        (S4AugError("no such mode"), "no such mode"),
        (torch.OutOfMemoryError("2 GiB"), "the GPU's memory is full; lower --crop or the batch sizes (2 GiB)"),
        (MemoryError("1 GiB"), "memory is full; lower --crop or the batch sizes (1 GiB)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 GiB"),
            "memory is full; lower --crop or the batch",
        ),
        (PermissionError(13, "Permission denied", "a.tif"), "a.tif: Permission denied; check the path and its permis"),
        (FromInductor("no compiler\nat all"), "torch.compile failed (no compiler); leave out --compile"),
        (RuntimeError("Connection closed by peer"), None),
        (ValueError("a fault of ours"), None),
    ],
)
def test_what_a_user_can_cure_is_told_in_one_line(error, text):
    assert (told(error) or "").startswith(text or "")
    assert (told(error) is None) == (text is None)


def test_a_lost_process_is_told_by_the_others_with_their_number(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert told(RuntimeError("[gloo/pair.cc:1] Connection closed by peer")).startswith("another process of the run is")
    assert told(RuntimeError("a fault of ours")) is None
    assert told(RuntimeError("")) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ConfigError("lower it")])
def test_errors_end_with_one_line_and_a_code(error, monkeypatch):
    @click.command()
    def fail():
        raise error

    monkeypatch.setattr(type(main), "get_command", lambda *_: fail)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = CliRunner().invoke(main, ["fail"])
    interrupted = isinstance(error, KeyboardInterrupt)
    assert result.exit_code == (130 if interrupted else 1)
    assert result.stderr == ("interrupted\n" if interrupted else "error (process 1): lower it\n")
