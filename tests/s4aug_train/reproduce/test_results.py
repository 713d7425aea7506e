"""Means and standard deviations of a table, against NumPy, and what is said below them."""

import math
import random

import numpy as np
import pytest

from s4aug_train.reproduce import paper
from s4aug_train.reproduce.folder import Outcome
from s4aug_train.reproduce.grid import Grid
from s4aug_train.reproduce.results import Figure, collected

LABELS = {"table2": (100,), "table3": (100,), "table4": (20, 50, 100), "fig5": (100,)}


def outcomes_of(grid, seed=0):
    chance = random.Random(seed)
    return {
        cell: Outcome(chance.uniform(20, 70), {name: chance.uniform(0, 90) for name in paper.CLASSES}, 0.1)
        for cell in grid.cells()
    }


def close(ours, numpys):
    return ours == pytest.approx(float(numpys), rel=1e-12)


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2), (5, 3, 8, 1)])
@pytest.mark.parametrize("table", ["table2", "table4", "fig5"])
def test_figures_are_means_and_sample_deviations_over_seeds(table, seeds):
    grid = Grid(table, LABELS[table], seeds)
    outcomes = outcomes_of(grid)
    figures = collected(grid, outcomes, ()).figures
    assert len(figures) == len(grid.entries())
    for entry, figure in zip(grid.entries(), figures, strict=True):
        values = np.array([outcomes[cell].miou for cell in entry.cells])
        assert close(figure.mean, values.mean())
        assert figure.sd is None if len(seeds) == 1 else close(figure.sd, values.std(ddof=1))
        assert figure.published == entry.published


def test_table_3_has_a_figure_for_each_class_and_method():
    grid = Grid("table3", (100,))
    outcomes = outcomes_of(grid)
    result = collected(grid, outcomes, ())
    assert result.categories == paper.CLASSES
    for method, series in paper.METHODS.items():
        for name in paper.CLASSES:
            values = [outcome.iou[name] for cell, outcome in outcomes.items() if cell.method == method]
            figure = result.at(name, series)
            assert close(figure.mean, np.mean(values))
            assert close(figure.sd, np.std(values, ddof=1))
            assert figure.published == paper.TABLE_3[method][name]


def test_classes_that_the_paper_lacks_come_last_and_absent_ones_have_no_figure():
    grid = Grid("table3", (100,), (0,))
    outcomes = {cell: Outcome(50.0, {"road": 12.0, "water": None}, 0.1) for cell in grid.cells()}
    result = collected(grid, outcomes, ())
    assert result.categories == (*paper.CLASSES, "road")
    assert result.at("road", "S4Net").published is None
    assert result.at("water", "S4Net").mean is None
    assert result.ours(result.at("water", "S4Net")) == "-"


def test_runs_that_are_missing_are_named_and_left_out():
    grid = Grid("table2", (100,))
    outcomes = outcomes_of(grid)
    gone = [cell for cell in outcomes if cell.method == "s4net" and cell.seed > 0]
    for cell in gone:
        del outcomes[cell]
    result = collected(grid, outcomes, ())
    figure = result.at("S4Net", "mIoU")
    assert (figure.sd, len(figure.values)) == (None, 1)
    assert result.ours(figure).endswith(" (n=1)")
    assert any("s4net-labeled100-seed1, s4net-labeled100-seed2" in text for text in result.told())


def test_gains_are_of_the_seeds_that_both_have():
    first = Figure("20", "S4Net", None, {0: 5.0, 1: 7.0, 2: 9.0})
    second = Figure("20", "Baseline", None, {2: 4.0, 0: 1.0})
    gain = first.less(second)
    assert gain.values == {0: 4.0, 2: 5.0}
    assert math.isclose(gain.sd, math.sqrt(0.5))


def test_the_gain_stands_beside_the_paper_s():
    for table, paired in (("table2", "paper +3.1"), ("table4", "(50): paper +2.41"), ("table3", "paper -0.69")):
        grid = Grid(table, LABELS[table], (0,))
        lines = collected(grid, outcomes_of(grid), ()).told()
        assert any(paired in line and line.startswith("S4Net minus baseline") for line in lines), table


def test_every_figure_is_marked_where_the_setting_differs():
    grid = Grid("fig5", (100,), (0,))
    result = collected(grid, outcomes_of(grid), ("train.steps 5 instead of 100,000",))
    assert all(result.ours(figure).endswith("*") for figure in result.figures)
    assert "not the paper's setting" in result.title
    assert result.told()[0] == "* not the paper's setting: train.steps 5 instead of 100,000."
    same = collected(grid, outcomes_of(grid), ())
    assert not any("*" in text for text in (same.title, *same.told(), *map(same.ours, same.figures)))


@pytest.mark.parametrize(("table", "count"), [("table2", 1), ("table3", 6), ("table4", 3)])
@pytest.mark.parametrize("differs", [(), ("train.steps 5 instead of 100,000",)])
def test_gains_are_marked_as_figures_are(table, count, differs):
    grid = Grid(table, LABELS[table], (0, 1))
    told = collected(grid, outcomes_of(grid), differs).told()
    gains = [line for line in told if line.startswith("S4Net minus baseline")]
    assert len(gains) == count
    for line in gains:
        assert ("* (seed by seed, n=2)" in line) == bool(differs)
