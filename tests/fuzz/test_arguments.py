"""The command line: values that no option expects, in any combination, for every command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s4aug_train.cli import main
from s4aug_train.cli.main import COMMANDS
from tests.fuzz.conftest import DATA, SMALL
from tests.fuzz.network import NAME
from tests.fuzz.promise import fuzzed
from tests.fuzz.strategies import TEXTS

ROOT = Path(__file__).resolve().parents[2]
RUN = ["../run", "--model", NAME]
# A call of each command that works, and fast.
WORKING = {
    "fit": ["--out", "new", *DATA, "--labeled", "3", "--val", "2", *SMALL],
    "evaluate": RUN,
    "predict": [*RUN, "../data/images/0.png", "--out", "maps", "--window", "64"],
    "export": [*RUN, "--format", "safetensors", "--out", "network.safetensors"],
    "report": [*RUN, "--out", "report.html", "--unlabeled-tiles", "1"],
    "doctor": [*DATA, "--labeled", "3"],
    "preview": [*DATA, "--out", "preview.png", "--crop", "64"],
    "split": [*DATA, "--labeled", "3", "--val", "2", "--out", "split.json"],
    "reproduce": ["table4", *DATA, "--out", "grid", "--dry-run", "--labels", "9"],
    "demo-data": ["folder", "--tiles", "1", "--unlabeled", "0", "--size", "64"],
}
# Work of any length is not wrong; and preview, reproduce and exports that are compiled take long even when short.
LONG = {
    "--steps",
    "--tiles",
    "--unlabeled",
    "--size",
    "--unlabeled-tiles",
    "--compile",
    "--dry-run",
    "--format",
    "--tta",
}
# In these places lie a folder, a file, a folder's file, nothing, and what is none of them.
PLACES = ["data", "classes.csv", "run", "run/checkpoints/last.pt", "data/images/0.png", "missing", "."]
PLACES += ["/dev/null", "/proc/self/x", "classes.csv/x", "a/b/c", "x\ny", "\x1b[31m", "-", "--", "x" * 300]
VALUES = st.sampled_from(PLACES) | TEXTS.filter(lambda text: text != "..")
VALUES |= st.sampled_from(
    ["-1", "0", "1", "64", "1e9", "nan", "inf", "9" * 30, "1,2,3", "val", "flips", "cpu", "\udcff"]
)
VALUES |= st.integers(-5, 70).map(str)


def options_of(command):
    """The names of a command's options."""
    found = [option for option in main.get_command(None, command).params if isinstance(option, click.Option)]
    return [name for option in found for name in option.opts if name not in LONG]


@st.composite
def calls(draw):
    """A call that works, with some arguments others, gone or added."""
    command = draw(st.sampled_from(list(WORKING)))
    arguments = list(WORKING[command])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(arguments)))
        kind = draw(st.sampled_from(["option", "option", "option", "value", "remove", "text"]))
        if kind == "option":
            arguments += [draw(st.sampled_from(options_of(command))), draw(VALUES)]
        elif kind == "value" and place < len(arguments) and arguments[place - 1] not in LONG:
            arguments[place] = draw(VALUES)
        elif kind == "remove" and place < len(arguments):
            del arguments[place]
        elif kind == "text":
            arguments.append(draw(VALUES))
    return [command, *arguments]


def held(world, arguments):
    """A call beside what may be written over, and a pipe, in whose place no file must be put."""
    with world.fresh() as folder:
        os.mkfifo(folder / "pipe")
        world.copied_data()
        shutil.copytree(world.root / "run", folder / "run")
        shutil.copy(world.root / "classes.csv", folder / "classes.csv")
        return world.call(*arguments)


def test_each_command_is_called():
    assert set(WORKING) == set(COMMANDS)


@pytest.mark.parametrize("command", [name for name in WORKING if name not in ("preview", "reproduce")])
def test_the_calls_that_are_varied_work(world, command):
    assert held(world, [command, *WORKING[command]]).code == 0


@fuzzed(12)
@given(arguments=calls().filter(lambda arguments: not is_long(arguments)))
@example(arguments=["evaluate", *RUN, "--out", "pipe"])
@example(arguments=["evaluate", "pipe"])
@example(arguments=["predict", "../run", "pipe", "--out", "maps", "--model", NAME])
@example(arguments=["predict", *RUN, "../data/images/0.png", "--out", "maps", "--batch", "9" * 12])
@example(arguments=["predict", *RUN, "../data/images/0.png", "--out", "maps", "--batch", "9" * 30])
@example(arguments=["predict", *RUN, "../data/images/0.png", "--out", "maps", "--window", "9" * 30])
@example(arguments=["predict", *RUN, "../data/images/0.png", "--out", "maps", "--bands", "9" * 5000])
@example(arguments=["predict", *RUN, "../data/images/0.png", "--out", "maps", "--nodata", "nan", "--scale", "nan"])
@example(arguments=["predict", *RUN, "../data/images/0.png", "--out", "maps", "--tta", "affine:²"])
@example(arguments=["reproduce", "table4", *DATA, "--out", "grid", "--labels", "²"])
@example(arguments=["split", *WORKING["split"], "--out", "pipe"])
@example(arguments=["fit", *DATA, "--labeled", "3", "--val", "2", "--out", "a/b/c", "--weights", "pipe", *SMALL[2:]])
@example(arguments=["fit", "--resume", "pipe", "--out", "x"])
@example(arguments=["\x1b[31m"])
@example(arguments=["fit", "--\x1b[31m"])
def test_any_arguments_work_or_end_in_one_line(world, arguments):
    held(world, arguments)


def is_long(arguments):
    """Whether a call would train what takes long, or time it."""
    command = arguments[0]
    if command == "preview":
        return arguments[1:] == WORKING[command]
    return (command == "fit" and not set(SMALL) <= set(arguments)) or (
        command == "reproduce" and not {"--labels", "9", "--dry-run"} <= set(arguments)
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--data", "../data", "--classes", "../data/images/0.png"],
        pytest.param(["evaluate", "../classes.csv"], marks=pytest.mark.slow),
        pytest.param(["predict", *RUN, "../classes.csv", "--out", "maps"], marks=pytest.mark.slow),
        pytest.param(["fit", *DATA, "--config", "../data/images/0.png"], marks=pytest.mark.slow),
        pytest.param(
            ["fit", *DATA, "--labeled", "3", "--val", "2", *SMALL, "--set=train.lr=x"], marks=pytest.mark.slow
        ),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_process_of_its_own_prints_the_one_line_and_nothing_else(world, arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with world.fresh() as folder:
        command = [sys.executable, "-m", "s4aug_train", *arguments]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert (ended.returncode, ended.stdout, list(folder.iterdir())) == (1, "", [])
        assert ended.stderr.startswith(("error: ", "failed: "))
        assert ended.stderr.count("\n") == 1
