"""The group of commands: loaded when they are called, and how errors of all kinds end."""

import subprocess
import sys

import click
import pytest
import torch
from click.testing import CliRunner

from s4aug import S4AugError
from s4aug_train.cli import main
from s4aug_train.cli.main import COMMANDS, told
from s4aug_train.errors import ConfigError


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
