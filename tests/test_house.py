"""The house: a file holds one noun, so none is long; commands alone import late, once what they got is checked."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 400  # lines
LONG = {
    "s4aug/transform.py": "all that pixel centres and fixed point are, in the one file that may know of them",
}
LATE = {
    "s4aug_train/cli/": "a mistake is told before torch is loaded",
    "s4aug_train/tensorboard.py": "an extra, which need not be there",
}


def files(*folders: str) -> dict[str, str]:
    """The text of each Python file, by its path below the root."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def long_files(texts: dict[str, str]) -> set[str]:
    return {name for name, text in texts.items() if len(text.splitlines()) >= LIMIT}


def late_imports(source: str) -> Iterator[int]:
    """The lines of imports inside functions."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield node.lineno


def test_no_file_is_long_but_those_that_have_a_reason():
    assert long_files(files("s4aug", "s4aug_train", "benchmarks", "tests")) == set(LONG)


@pytest.mark.parametrize("lines", [399, 400])
def test_a_long_file_is_found(lines):
    assert bool(long_files({"a.py": "x = 1\n" * lines})) == (lines >= 400)


def test_nothing_but_commands_and_an_extra_is_imported_within_functions():
    found = {name for name, text in files("s4aug", "s4aug_train").items() if [*late_imports(text)]}
    assert {name for name in found if not name.startswith(tuple(LATE))} == set()
    assert all(any(name.startswith(place) for name in found) for place in LATE)


def test_an_import_within_a_function_is_found():
    source = "import a\nif a:\n    import b\ndef f():\n    if a:\n        from c import d\n"
    assert list(late_imports(source)) == [6]
