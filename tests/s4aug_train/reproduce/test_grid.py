"""Which runs a table is made of."""

import pytest

from s4aug_train.errors import ConfigError
from s4aug_train.reproduce.grid import TABLES, Cell, Grid

LABELS = {"table2": (100,), "table3": (100,), "table4": (20, 50, 100), "fig5": (100,)}


def names(table):
    return {cell.name for cell in Grid(table, LABELS[table]).cells()}


@pytest.mark.parametrize(("table", "runs"), [("table2", 12), ("table3", 12), ("table4", 18), ("fig5", 15)])
def test_a_table_is_of_so_many_runs_each_once(table, runs):
    cells = Grid(table, LABELS[table]).cells()
    assert len(cells) == len(set(cells)) == len(names(table)) == runs


def test_tables_share_the_runs_that_they_have_in_common():
    assert names("table2") == names("table3")
    both = {f"{method}-labeled100-seed{seed}" for method in ("supervised", "s4net") for seed in (0, 1, 2)}
    assert names("table2") & names("table4") == both
    assert names("table2") & names("fig5") == {name for name in both if name.startswith("s4net")}


def test_the_first_seed_comes_first():
    assert [cell.seed for cell in Grid("table2", (100,), (7, 3)).cells()] == [7] * 4 + [3] * 4


def test_a_run_is_named_by_what_it_sets():
    cell = Cell("s4net", 100, 2, 0.2)
    assert cell.name == "s4net-labeled100-lambda0.2-seed2"
    assert cell.settings() == {
        "method.name": "s4net",
        "data.labeled": 100,
        "train.seed": 2,
        "method.weight": 0.2,
    }
    assert "method.weight" not in Cell("hung", 100, 2).settings()


@pytest.mark.parametrize("table", [table for table in TABLES if table != "table4"])
def test_all_but_table_4_are_of_one_number_of_labels(table):
    with pytest.raises(ConfigError, match="--labels 20, 50; give one"):
        Grid(table, (20, 50))
