"""The table of docs/exactness.md is what its script measures, and ours keeps what the rows promise."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = importlib.util.spec_from_file_location("exactness", ROOT / "benchmarks" / "exactness.py")
exactness = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(exactness)

PAGE = (ROOT / "docs" / "exactness.md").read_text()
TABLE = PAGE.split(exactness.BEGIN)[1].split(exactness.END)[0]
ROWS = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in TABLE.splitlines() if line.startswith("|")]


def shown(start):
    """(ours, Kornia's) of the row that begins so."""
    ((_, *cells),) = (row for row in ROWS if row[0].startswith(start))
    return tuple(cells)


def test_counts_on_the_page_are_those_measured():
    assert shown("Lattice moves") == exactness.lattice_moves()
    assert shown("Pixels with wrong validity") == exactness.validity()
    changed, distance = exactness.lifting()
    assert changed in ROWS
    assert distance in ROWS


# The last digits may differ between machines.
@pytest.mark.parametrize(
    ("start", "measure", "limit"),
    [
        ("A stride-4 map undone", exactness.stride_four_undo, 1e-3),
        ("S4Net loss of the identity", exactness.identity_loss, 1e-6),
        ("Coordinates there and back at 512, float32", lambda: exactness.coordinate_error((512, 512), 4, False), 1e-4),
    ],
)
def test_measures_on_the_page_are_those_measured(start, measure, limit):
    measured, page = measure(), [float(cell) for cell in shown(start)]
    assert measured[0] < limit
    assert measured == pytest.approx(page, rel=0.2)


def test_ours_are_what_the_docs_promise():
    whole, cases = shown("Lattice moves")[0].split(" of ")
    assert whole == cases
    assert shown("Labels changed")[0] == "0"
    assert shown("Pixels with wrong validity")[0].startswith("0 of ")
    assert shown("Graph breaks")[0] == "0"
    assert all(float(row[1]) < 1e-4 for row in ROWS if row[0].startswith("Coordinates"))
    assert len(ROWS) == 2 + 13
