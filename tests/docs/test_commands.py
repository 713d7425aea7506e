"""The commands that the pages show are such as the command line takes."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest

from s4aug_train.cli import main
from s4aug_train.config import known_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of pip, torchrun, TensorBoard, pytest and onnxruntime's tool, where they stand in a sentence.
OTHERS = {"--max-restarts", "--shutdown-timeout", "--samples_per_plugin", "--benchmark-device", "--signal"}


def commands(text):
    """The words of each call of ours in blocks of sh."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            call = re.search(r"(?:^|[^\w])(?:s4aug-train|-m s4aug_train) (.+)", line.strip())
            if call:
                yield shlex.split(call[1], comments=True)


def faults_of(words):
    """What the command line would refuse in a call."""
    command = main.get_command(click.Context(main), words[0])
    if command is None:
        return [f"no command {words[0]}"]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    faults = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    assigned = [value for name, value in pairwise(words) if name == "--set"]
    return faults + [pair for pair in assigned if pair.split("=")[0] not in known_keys()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_have_options_that_there_are(page):
    for words in commands(page.read_text()):
        assert faults_of(words) == [], words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_settings_in_sentences_are_there(page):
    sentences = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    code = re.findall(r"`([^`]+)`", sentences)
    listed = [main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))]
    known = {name for command in listed for parameter in command.params for name in parameter.opts}
    options = {option for text in code for option in re.findall(r"(?<!\S)--[\w-]+", text)}
    assert options - known - OTHERS - {"--help"} == set()
    settings = {key for text in code for key in re.findall(r"\b(?:data|model|method|train)\.[a-z]\w+", text)}
    assert {key for key in settings if not key.endswith((".py", ".yml"))} - set(known_keys()) == set()


def test_a_command_that_would_be_refused_is_found():
    text = "```sh\ns4aug-train fit --data demo --epochs 3 --set train.epochs=3  # no\npython -m s4aug_train fly\n```\n"
    assert [faults_of(words) for words in commands(text)] == [["--epochs", "train.epochs=3"], ["no command fly"]]
