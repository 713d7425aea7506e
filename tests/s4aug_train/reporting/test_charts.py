"""What is drawn is where the axis says it is: places are read back by the ticks, which share no code with scales."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s4aug_train.reporting.charts import (
    BINS,
    Bar,
    Line,
    category_chart,
    interval_chart,
    line_chart,
    reliability_chart,
)

VALUES = st.lists(st.one_of(st.none(), st.floats(0.001, 1000)), min_size=2, max_size=30)


def drawn(markup):
    return ET.fromstring(markup.source)


def ruler(svg, axis):
    """From places in px to values, by the ticks of an axis."""
    factor = {"k": 1e3, "M": 1e6}
    ticks = [(float(t.get(axis)), t.text) for t in svg.iter("text") if t.get("class") == f"tick {axis}"]
    places = [place for place, _ in ticks]
    values = [float(text.rstrip("kM")) * factor.get(text[-1], 1) for _, text in ticks]
    assert len(places) >= 2
    slope, start = np.polyfit(places, values, 1)
    return lambda place: slope * np.asarray(place) + start


def points(svg, name):
    """Corners of a run's line, part by part."""
    (path,) = [p.get("d") for p in svg.iter("path") if p.get("data-run") == name]
    parts = [part for part in path.split("M") if part]
    return [[tuple(map(float, corner.split())) for corner in part.split("L")] for part in parts]


def marks(svg, look):
    found = [p for p in svg.iter("path") if p.get("class", "").split()[:1] == ["mark"]]
    return [
        tuple(map(float, re.findall(r"[-\d.]+", p.get("transform")))) for p in found if f"c{look}" in p.get("class")
    ]


@given(VALUES, st.integers(1, 5000))
def test_lines_are_where_the_ticks_say(values, step):
    if all(value is None for value in values):
        values = [*values, 1.0]
    x = tuple(float(step * (i + 1)) for i in range(len(values)))
    svg = drawn(line_chart("k", "Loss", [Line("run", 0, x, tuple(values))], ("step", "loss")))
    at_x, at_y = ruler(svg, "x"), ruler(svg, "y")
    found = [corner for part in points(svg, "run") for corner in part]
    expected = [(a, b) for a, b in zip(x, values, strict=True) if b is not None]
    assert len(found) == len(expected)
    top = max(b for _, b in expected)
    for (px, py), (a, b) in zip(found, expected, strict=True):
        assert at_x(px) == pytest.approx(a, abs=0.002 * max(x))
        assert at_y(py) == pytest.approx(b, abs=0.005 * top)


def test_a_line_has_a_gap_where_there_is_no_value():
    line = Line("run", 0, (1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 2.0, None, float("nan"), 3.0))
    assert [len(part) for part in points(drawn(line_chart("k", "t", [line], ("x", "y"))), "run")] == [2, 1]


def test_long_runs_are_drawn_as_means_of_neighbours():
    x = tuple(float(i) for i in range(10 * BINS))
    y = tuple(float(i % 10) for i in range(10 * BINS))
    thin = Line("run", 0, x, y).thinned()
    assert len(thin.x) == BINS
    assert thin.y == pytest.approx([4.5] * BINS)
    assert thin.x == pytest.approx([10 * i + 4.5 for i in range(BINS)])


def test_shares_are_drawn_in_percent_and_not_beyond():
    svg = drawn(line_chart("k", "t", [Line("run", 0, (0.0, 10.0), (0.5, 1.0))], ("step", "right (%)"), shares=True))
    ((first, last),) = points(svg, "run")
    assert ruler(svg, "y")([first[1], last[1]]) == pytest.approx([50, 100], abs=0.5)
    assert max(float(t.text) for t in svg.iter("text") if t.get("class") == "tick y") == 100


def test_names_stand_beside_their_lines_and_do_not_overlap():
    lines = [Line(f"run-{i}", i, (0.0, 1.0), (0.0, 1.0 + i / 1000)) for i in range(6)]
    svg = drawn(line_chart("k", "t", lines, ("x", "y")))
    names = {t.text: t for t in svg.iter("text") if (t.get("class") or "").startswith("name")}
    assert set(names) == {line.name for line in lines}
    heights = sorted(float(t.get("y")) for t in names.values())
    assert min(np.diff(heights)) >= 12.9
    assert {t.get("class") for t in names.values()} == {f"name f{i}" for i in range(6)}
    alone = drawn(line_chart("k", "t", lines[:1], ("x", "y")))
    assert not [t for t in alone.iter("text") if (t.get("class") or "").startswith("name")]


def test_intervals_end_where_the_ticks_say_and_missing_values_are_told():
    bars = [Bar("a", 0, 0.4, (0.3, 0.55)), Bar("b", 1, 0.8, None)]
    svg = drawn(
        interval_chart("k", "IoU", [("water", bars), ("rock", [Bar("a", 0, None, None)])], "IoU (%)", aside="no")
    )
    at = ruler(svg, "x")
    assert at([marks(svg, 0)[0][0], marks(svg, 1)[0][0]]) == pytest.approx([40, 80], abs=0.2)
    (whisker,) = [p.get("d") for p in svg.iter("path") if "whisker" in p.get("class")]
    left, right = (float(re.match(r"[\d.]+", part)[0]) for part in (whisker.split("M")[1], whisker.split("M")[3]))
    assert at([left, right]) == pytest.approx([30, 55], abs=0.2)
    assert "a: no" in [t.text for t in svg.iter("text")]
    told = svg.find("desc").text
    assert "a 40.0\u202f% (30.0\u202f% to 55.0\u202f%)" in told
    assert "rock: a none" in told


def test_reliability_is_drawn_on_both_axes_with_rare_bins_apart():
    main, rare = Line("run", 0, (0.3, 0.9), (0.5, 0.7)), Line("run", 0, (0.1,), (0.6,))
    svg = drawn(reliability_chart("k", "t", [main], [rare], ("confidence (%)", "right (%)")))
    at_x, at_y = ruler(svg, "x"), ruler(svg, "y")
    ((first, last),) = points(svg, "run")
    assert at_x([first[0], last[0]]) == pytest.approx([30, 90], abs=0.2)
    assert at_y([first[1], last[1]]) == pytest.approx([50, 70], abs=0.2)
    (hollow,) = [p for p in svg.iter("path") if "hollow" in p.get("class", "")]
    px, py = map(float, re.findall(r"[-\d.]+", hollow.get("transform")))
    assert (at_x(px), at_y(py)) == (pytest.approx(10, abs=0.2), pytest.approx(60, abs=0.2))
    (ideal,) = [line for line in svg.iter("line") if line.get("class") == "ideal"]
    assert at_x([float(ideal.get("x1")), float(ideal.get("x2"))]) == pytest.approx([0, 100], abs=0.1)
    assert at_y([float(ideal.get("y1")), float(ideal.get("y2"))]) == pytest.approx([0, 100], abs=0.1)


def test_categories_lie_over_their_names():
    line = Line("run", 0, (0.0, 1.0, 2.0), (0.5, None, 0.9))
    svg = drawn(category_chart("k", "t", ["1", "2", ">2"], [line], ("px", "right (%)")))
    named = {t.text: float(t.get("x")) for t in svg.iter("text") if t.get("class") == "tick x"}
    (first,), (last,) = points(svg, "run")
    assert (first[0], last[0]) == (pytest.approx(named["1"], abs=0.1), pytest.approx(named[">2"], abs=0.1))
    assert ruler(svg, "y")([first[1], last[1]]) == pytest.approx([50, 90], abs=0.3)


def test_a_chart_is_named_and_told_for_those_who_do_not_see_it():
    svg = drawn(line_chart("k", "A <b> title", [Line("run <i>", 0, (0.0, 5.0), (2.0, 1.0))], ("x", "y")))
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "k-title k-desc"
    assert (svg.find("title").text, svg.find("title").get("id")) == ("A <b> title", "k-title")
    assert svg.find("desc").text == "run <i>: 2 at 0, 1 at 5, between 1 and 2"


def test_a_line_of_unequal_parts_is_refused():
    with pytest.raises(ValueError, match="the line run has 1 places and 2 values"):
        Line("run", 0, (1.0,), (1.0, 2.0))
