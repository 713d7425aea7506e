"""The pictures of docs/design.md show what is there."""

import re
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def house():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        yield import_module("house")


def texts(name):
    """The words of a picture, each with (x, y)."""
    found = ElementTree.parse(IMAGES / name).iter("{http://www.w3.org/2000/svg}text")
    return [(each.text, float(each.get("x")), float(each.get("y"))) for each in found]


def test_the_pictures_are_those_of_the_code(house):
    for name, diagram in house.HOUSE.items():
        assert (IMAGES / name).read_text() == diagram(), f"{name} is old: run python docs/make_pictures.py"


@pytest.mark.parametrize("package", ["s4aug", "s4aug_train"])
def test_every_file_and_room_is_on_the_picture_above_what_it_imports(package):
    column = {}  # how far down each name is
    for text, x, y in texts("floors.svg"):
        if (x < 280) == (package == "s4aug"):
            column |= dict.fromkeys(text.split(" · "), y)
    for path in (ROOT / package).iterdir():
        if path.name in ("__init__.py", "__pycache__", "py.typed"):
            continue
        name = path.stem if path.is_file() else f"{path.name}/"
        assert name in column, f"{name} is not on the picture: run python docs/make_pictures.py"
        source = path.read_text() if path.is_file() else ""
        for other in re.findall(r"^from \.(\w+) import", source, re.MULTILINE):
            below = column.get(other, column.get(f"{other}/"))
            assert below > column[name], (name, other)  # downwards in px


def test_the_values_on_the_way_are_there_and_do_not_change(house):
    for name, home, _ in (step for steps in house.WAY.values() for step in steps):
        if not home:
            continue
        value = getattr(import_module(home), name)
        assert issubclass(value, tuple) or (is_dataclass(value) and value.__dataclass_params__.frozen), name
    assert {name for name, _, _ in texts("way.svg")} >= {name for steps in house.WAY.values() for name, _, _ in steps}
