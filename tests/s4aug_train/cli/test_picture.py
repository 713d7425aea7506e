"""Pictures of half blocks in a terminal."""

import io

import numpy as np
import pytest
from rich.console import Console

from s4aug_train.cli.picture import Picture, can_show


def console(width=20, **options):
    settings = {"force_terminal": True, "color_system": "truecolor", **options}
    return Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8"), width=width, **settings)


def cells(shown, where):
    """Lines of (character, upper colour, lower colour)."""
    lines = where.render_lines(Picture(shown), pad=False)
    return [[(s.text, tuple(s.style.color.triplet), tuple(s.style.bgcolor.triplet)) for s in line] for line in lines]


def test_two_rows_of_pixels_are_one_of_characters():
    shown = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    found = cells(shown, console())
    assert [[cell[0] for cell in line] for line in found] == [["▀"] * 8] * 3
    assert [[cell[1] for cell in line] for line in found] == [[tuple(p) for p in row] for row in shown[::2].tolist()]
    assert [[cell[2] for cell in line] for line in found] == [[tuple(p) for p in row] for row in shown[1::2].tolist()]


@pytest.mark.parametrize(("size", "lines"), [((100, 200), 5), ((7, 400), 1), ((1, 1), 1), ((300, 40), 75)])
def test_a_large_picture_is_as_wide_as_the_terminal_and_keeps_its_shape(size, lines):
    found = cells(np.full((*size, 3), 200, np.uint8), console())
    assert len(found) == lines
    assert {len(line) for line in found} == {min(20, size[1])}
    assert all(cell[1:] == ((200,) * 3, (200,) * 3) for line in found for cell in line)


@pytest.mark.parametrize(
    ("options", "able"),
    [
        ({}, True),
        ({"color_system": "256"}, True),
        ({"color_system": "standard"}, False),
        ({"force_terminal": False}, False),
    ],
)
def test_a_terminal_needs_enough_colours(options, able):
    assert can_show(console(**options)) == able
