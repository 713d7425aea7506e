"""Every public name is in the reference, once, with a docstring."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import s4aug
import s4aug_train
from s4aug_train.limits import CHOICES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def told():
    """What the pages show by `:::`, as names."""
    return [name for page in sorted(DOCS.glob("*.md")) for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]


def found(name):
    """The object of a full name."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(found(module), attribute)


def public(package):
    """The names that a package re-exports, by its own source."""
    names = re.findall(r" as (\w+)$", Path(package.__file__).read_text(), re.MULTILINE)
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("package", [s4aug, s4aug_train], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package):
    shown = [found(name) for name in told()]
    assert len(public(package)) >= 13
    for name in public(package):
        assert sum(each is getattr(package, name) for each in shown) == 1, name


def test_every_method_has_a_row_on_its_page():
    rows = re.findall(r"^\| `([\w+-]+)` \|", (DOCS / "methods.md").read_text().split("What each sets")[0], re.MULTILINE)
    assert tuple(rows) == CHOICES["method.name"]


def test_all_that_is_in_the_reference_says_what_it_is():
    assert len(told()) == len(set(told()))
    for name in told():
        value = found(name)
        assert not isinstance(value, ModuleType), name
        # A dataclass without one has its signature for a docstring.
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{value.__name__}("), name
        parts = vars(value).items() if inspect.isclass(value) else ()
        for part, method in parts:
            if inspect.isroutine(method) and not part.startswith("_"):
                assert inspect.getdoc(method), f"{name}.{part}"
