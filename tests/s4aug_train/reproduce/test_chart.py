"""Pictures of results: whole SVG, everything inside the frame, points where their values are."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from s4aug_train.reproduce.chart import LEFT_PX, PLOT_PX, TOP_PX, WIDTH_PX, drawn
from s4aug_train.reproduce.grid import TABLES, Grid
from s4aug_train.reproduce.paper import Published
from s4aug_train.reproduce.results import Figure, Result, collected

SVG = "{http://www.w3.org/2000/svg}"


def circles(picture, filled):
    """Points below the key: (x, y)."""
    every = [c for c in ElementTree.fromstring(picture).iter(f"{SVG}circle") if float(c.get("cy")) > TOP_PX - 10]
    return [(float(c.get("cx")), float(c.get("cy"))) for c in every if (c.get("fill") != "white") == filled]


def made(values, published, table="fig5", differs=()):
    figures = tuple(
        Figure(str(number), "S4Net", theirs, dict(enumerate(ours)))
        for number, (ours, theirs) in enumerate(zip(values, published, strict=True))
    )
    return Result(table, figures, (0, 1, 2), differs)


def value_at(picture, y):
    """By the numbers of the axis, as a reader would."""
    ticks = [t for t in ElementTree.fromstring(picture).iter(f"{SVG}text") if t.get("text-anchor") == "end"]
    (y0, v0), (y1, v1) = ((float(t.get("y")) - 4, float(t.text)) for t in (ticks[0], ticks[-1]))
    return v0 + (v1 - v0) * (y - y0) / (y1 - y0)


def test_points_are_where_their_values_are():
    picture = drawn(made([[20, 24], [50.5, 51.5], [33, 33]], [None, Published(65.2), Published(40, 3)]))
    ours, theirs = circles(picture, filled=True), circles(picture, filled=False)
    assert [value_at(picture, y) for _, y in ours] == pytest.approx([22, 51, 33], abs=0.1)
    assert [value_at(picture, y) for _, y in theirs] == pytest.approx([65.2, 40], abs=0.1)
    assert sorted(x for x, _ in ours) == [x for x, _ in ours]


def test_bars_are_standard_deviations():
    picture = drawn(made([[20, 24]], [None]))
    (bar,) = re.findall(r'd="M[\d.]+ ([\d.]+)V([\d.]+)M', picture)
    low, high = (value_at(picture, float(y)) for y in bar)
    assert (low, high) == pytest.approx((22 - 8**0.5, 22 + 8**0.5), abs=0.1)
    # One seed has none.
    assert not re.findall(r'd="M[\d.]+ ([\d.]+)V([\d.]+)M', drawn(made([[20]], [None])))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_without_runs_shows_the_paper_s_points_inside_the_frame(table):
    grid = Grid(table, (20, 50, 100) if table == "table4" else (100,))
    picture = drawn(collected(grid, {}, ("a < b & c",)))
    theirs = circles(picture, filled=False)
    assert len(theirs) == {"table2": 4, "table3": 24, "table4": 6, "fig5": 1}[table]
    assert circles(picture, filled=True) == []
    assert all(LEFT_PX < x < WIDTH_PX and TOP_PX <= y <= TOP_PX + PLOT_PX for x, y in theirs)
    assert "a &lt; b &amp; c" in picture


def test_nothing_at_all_is_drawn_as_an_empty_frame():
    ElementTree.fromstring(drawn(replace(made([[]], [None]), seeds=())))
