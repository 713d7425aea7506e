"""Tables of results as files."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from s4aug_train.cli.grid import result_table
from s4aug_train.errors import S4AugTrainError
from s4aug_train.reproduce import paper
from s4aug_train.reproduce.documents import as_csv, as_markdown, header, rows, write_all
from s4aug_train.reproduce.folder import Outcome
from s4aug_train.reproduce.grid import TABLES, Grid
from s4aug_train.reproduce.results import collected

DIFFERS = ("train.steps 5 instead of 100,000", "model.encoder resnet18 instead of resnet50")


def result_of(table, differs=DIFFERS):
    grid = Grid(table, (20, 50, 100) if table == "table4" else (100,))
    values = np.random.default_rng(0).uniform(0, 90, (len(grid.cells()), 7))
    outcomes = {
        cell: Outcome(float(row[0]), dict(zip(paper.CLASSES, map(float, row[1:]), strict=True)), 0.1)
        for cell, row in zip(grid.cells(), values, strict=True)
    }
    return collected(grid, outcomes, differs)


@pytest.mark.parametrize("table", TABLES)
def test_the_csv_holds_all_values_unrounded_with_the_paper_s_beside(table):
    result = result_of(table)
    lines = list(csv.DictReader(io.StringIO(as_csv(result))))
    assert len(lines) == len(result.figures)
    for line, figure in zip(lines, result.figures, strict=True):
        values = np.array([float(value) for value in line["values"].split()])
        assert float(line["ours_mean"]) == pytest.approx(values.mean(), rel=1e-12)
        assert float(line["ours_sd"]) == pytest.approx(values.std(ddof=1), rel=1e-12)
        assert (line["n"], line["seeds"]) == ("3", "0 1 2")
        assert line["paper_mean"] == ("" if figure.published is None else str(figure.published.mean))
        assert (line["papers_setting"], line["differs"]) == ("no", "; ".join(DIFFERS))


def test_figures_of_the_paper_s_setting_are_not_marked():
    lines = list(csv.DictReader(io.StringIO(as_csv(result_of("table2", ())))))
    assert {(line["papers_setting"], line["differs"]) for line in lines} == {("yes", "")}
    assert "*" not in as_markdown(result_of("table2", ()))


@pytest.mark.parametrize("table", TABLES)
def test_the_table_for_people_holds_the_paper_s_figures_and_ours(table):
    result = result_of(table)
    assert {len(row) for row in rows(result)} == {len(header(result))}
    text = as_markdown(result)
    for figure in result.figures:
        assert f"{figure.mean:.2f} ± {figure.sd:.2f}\\*" in text
        assert str(figure.published or "-") in text
    assert all(each in text for each in DIFFERS)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_a_terminal_and_loses_nothing(table, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(result_table(result_of(table)))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    if width == 120:
        assert all(f"{figure.mean:.2f} ± {figure.sd:.2f}*" in shown for figure in result_of(table).figures)


def test_files_are_whole_or_as_they_were(tmp_path, file_limit):
    write_all(result_of("table2"), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"results.csv", "results.md", "figure.svg"}
    with file_limit(100), pytest.raises(S4AugTrainError, match="results.csv: File too large; free some space"):
        write_all(result_of("table3"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
