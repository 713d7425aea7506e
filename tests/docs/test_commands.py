"""Every `s4aug-train ...` in README and docs is understood by the command line: commands, options, settings, values."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from s4aug_train.cli import main
from s4aug_train.config import known_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Of pip, torchrun, TensorBoard, MkDocs, pytest and onnxruntime's tool, where they stand in a sentence.
OTHERS = {"--max-restarts", "--shutdown-timeout", "--samples_per_plugin", "--signal", "--requeue"}
OTHERS |= {"--benchmark", "--benchmark-device", "--hypothesis-profile", "--strict"}
# What stands for something of the reader's: RUN, $seed, GROUP.KEY=VALUE, "...".
PLACEHOLDER = re.compile(r"\$|\.\.\.|^[A-Z][A-Z_.]*(=[A-Z]+)?$")


def shell_commands(text: str) -> Iterator[list[str]]:
    """The arguments of each s4aug-train in shell blocks, whatever stands before and after it."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            yield from arguments_in(line)


def inline_commands(text: str) -> Iterator[list[str]]:
    """The same of code within sentences, which may leave out what is not spoken of."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]*)`", prose):
        if re.search("s4aug[-_]train", code):
            yield from arguments_in(code)


def arguments_in(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    tokens = list(lexer)
    for number, token in enumerate(tokens):
        if token == "s4aug-train" or (token == "s4aug_train" and tokens[number - 1 : number] == ["-m"]):
            rest = tokens[number + 1 :]
            ends = [at for at, other in enumerate(rest) if set(other) <= set("();<>|&")]
            yield rest[: min(ends, default=len(rest))]


def check(arguments: list[str], *, whole: bool) -> None:
    """Hold one call to what there is.

    Args:
        arguments: After the program's name.
        whole: Nothing is left out, so required arguments must be there and values must be of their kind.
    """
    if not arguments or arguments[0] in ("--help", "--version"):
        return
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"no command {name}"
    known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    for option in (token.split("=")[0] for token in rest if token.startswith("--")):
        assert option in known | {"--help"}, f"{name} has no {option}"
    for key in (value.split("=")[0] for option, value in itertools.pairwise(rest) if option == "--set"):
        assert key in known_keys() or PLACEHOLDER.search(key), f"no setting {key}"
    if whole and "--help" not in rest and not any(PLACEHOLDER.search(token) for token in rest):
        command.make_context(name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page):
    text = page.read_text()
    for arguments in shell_commands(text):
        check(arguments, whole=True)
    for arguments in inline_commands(text):
        check(arguments, whole=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_settings_in_sentences_are_there(page):
    sentences = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    code = re.findall(r"`([^`]+)`", sentences)
    listed = [main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))]
    known = {name for command in listed for parameter in command.params for name in parameter.opts}
    options = {option for text in code for option in re.findall(r"(?<!\S)--[\w-]+", text)}
    assert options - known - OTHERS - {"--help"} == set()
    settings = {key for text in code for key in re.findall(r"\b(?:data|model|method|train)\.[a-z]\w+", text)}
    assert {key for key in settings if not key.endswith((".py", ".yml", ".md"))} - set(known_keys()) == set()


def test_the_pages_hold_commands():
    assert sum(len(list(shell_commands(page.read_text()))) for page in PAGES) > 30
    assert sum(len(list(inline_commands(page.read_text()))) for page in PAGES) > 5


def test_commands_are_found_among_what_else_a_shell_is_told():
    text = """
```sh
pip install . && s4aug-train fit --data demo  # the demo
for seed in 0 1; do
  s4aug-train fit --data 'a b' \\
    --seed $seed; done
torchrun --nproc-per-node 4 -m s4aug_train predict runs/a 'x/*.tif' --out maps/ > log.txt
```
Then `s4aug-train split` or
`s4aug-train
doctor`, in s4aug_train.
"""
    assert list(shell_commands(text)) == [
        ["fit", "--data", "demo"],
        ["fit", "--data", "a b", "--seed", "$seed"],
        ["predict", "runs/a", "x/*.tif", "--out", "maps/"],
    ]
    assert list(inline_commands(text)) == [["split"], ["doctor"]]


@pytest.mark.parametrize(
    "line",
    [
        "fits --data demo",
        "fit --data demo --labelled 3",
        "fit --data demo --set train.rate=1",
        "fit --data demo --steps many",
        "fit --data demo --method s5net",
        "split --data demo",
        "evaluate runs/a runs/b",
    ],
)
def test_a_command_that_is_wrong_is_found(line):
    with pytest.raises((AssertionError, click.UsageError)):
        check(line.split(), whole=True)


def test_placeholders_pass_and_only_they():
    check(["fit", "--data", "FOLDER", "--steps", "N", "--set", "GROUP.KEY=VALUE", "--seed", "$seed"], whole=True)
    with pytest.raises(AssertionError, match="no --sed"):
        check(["fit", "--data", "FOLDER", "--steps", "N", "--sed", "$seed"], whole=True)
