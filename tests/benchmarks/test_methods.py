import pytest
import torch

from benchmarks.cases import Case
from benchmarks.contest import WrongResult
from benchmarks.methods import BASE, NAMES, Steps, step_seconds, table
from benchmarks.timing import Budget

SMALL = Case("step", 4, 3, (64, 64), "float32", "cpu")


def test_every_method_takes_its_turn():
    seconds = step_seconds(SMALL, Budget(0.0, 1, 1))
    assert set(seconds) == set(NAMES)
    assert all(len(taken) == 1 and taken[0] > 0 for taken in seconds.values())


def test_the_table_takes_ratios_within_a_round_and_begins_with_the_cheapest():
    seconds = {"s4net": [3.0, 6.0, 90.0], BASE: [1.0, 2.0, 30.0], "full": [0.5, 1.0, 60.0]}
    lines = table(seconds, {"s4net": 3 << 20, BASE: 2 << 20})
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| `full`", f"| `{BASE}`", "| `s4net`"]
    assert "3.00 (3.00 to 3.00)" in lines[4]
    assert "1.00 (1.00 to 1.00)" in lines[3]
    assert lines[4].endswith("3.00 |")


def test_a_loss_that_is_not_finite_is_no_time():
    steps = Steps(BASE, SMALL)
    steps.step = lambda: {"loss": torch.tensor(torch.nan)}
    with pytest.raises(WrongResult, match="supervised: the loss is nan"):
        steps()
