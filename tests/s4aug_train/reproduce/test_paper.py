"""The paper's figures agree with each other where they should."""

import statistics

import pytest

from s4aug_train.reproduce import paper

# As printed: rows of Table 2, columns of Table 3, rows of Table 4.
PRINTED_2 = "55.1 62.1 66.8 65.2"
PRINTED_3 = {
    "agriculture_land": "80.80 84.54 87.10 83.85",
    "forest_land": "53.66 63.72 72.63 66.41",
    "rangeland": "12.97 23.16 32.95 28.70",
    "urban_land": "69.57 73.29 77.00 73.35",
    "barren_land": "45.51 51.22 51.69 57.97",
    "water": "67.95 76.95 79.35 81.10",
}
PRINTED_4 = {
    "supervised": "51.52±3.47 59.29±3.43 63.51±0.97",
    "s4net": "53.47±2.82 61.70±4.32 66.42±1.75",
}


def test_the_figures_are_those_that_are_printed():
    rows = ("hung", "supervised", "full", "s4net")
    assert tuple(paper.METHODS) == rows
    assert " ".join(str(paper.TABLE_2[row]) for row in rows) == PRINTED_2
    for name, printed in PRINTED_3.items():
        assert " ".join(str(paper.TABLE_3[row][name]) for row in rows) == printed
    for method, printed in PRINTED_4.items():
        ours = " ".join(str(paper.TABLE_4[method, count]).replace(" ", "") for count in (20, 50, 100))
        assert ours == printed
    assert len(paper.TABLE_3["full"]) == len(PRINTED_3)
    assert len(paper.TABLE_4) == 6


@pytest.mark.parametrize("method", paper.METHODS)
def test_table_2_is_the_mean_over_the_classes_of_table_3(method):
    mean = statistics.fmean(published.mean for published in paper.TABLE_3[method].values())
    # Printed with one digit, of figures with two; 62.147 and 66.787 are printed as 62.1 and 66.8.
    assert abs(mean - paper.TABLE_2[method].mean) < 0.05 + 0.005


def test_the_gains_that_the_paper_tells_are_what_the_notes_say():
    s4net, baseline, full = (paper.TABLE_3[method] for method in ("s4net", "supervised", "full"))
    for name, relative, points in (("forest_land", 4.22, 2.69), ("rangeland", 23.92, 5.54)):
        gain = s4net[name].mean - baseline[name].mean
        assert 100 * gain / baseline[name].mean == pytest.approx(relative, abs=0.005)
        assert gain == pytest.approx(points, abs=0.005)
        assert f"{points}" in paper.OF_TABLE_3[0]
        assert f"{relative} %" in paper.OF_TABLE_3[0]
    assert paper.TABLE_2["full"].mean - paper.TABLE_2["supervised"].mean == pytest.approx(4.7)
    assert paper.TABLE_2["s4net"].mean - paper.TABLE_2["supervised"].mean == pytest.approx(3.1)
    # Text of Sec. 4.3.
    assert (s4net["barren_land"].mean, s4net["water"].mean) == (57.97, 81.10)
    assert all(s4net[name].mean > full[name].mean for name in ("barren_land", "water"))


def test_figures_are_shown_as_they_are_printed():
    assert str(paper.TABLE_2["hung"]) == "55.1"
    assert str(paper.TABLE_3["full"]["urban_land"]) == "77.00"
    assert str(paper.TABLE_4["s4net", 50]) == "61.70 ± 4.32"
