"""Times are taken in turns, and ratios within a round."""

import gc

import pytest

from benchmarks.timing import Budget, Spread, ratios, spread, time_in_turns


class Machine:
    """A clock that work moves on; after a while everything takes ten times as long."""

    def __init__(self, slow_from=float("inf")):
        self.now, self.slow_from, self.order = 0.0, slow_from, []

    def clock(self):
        return self.now

    def work(self, name, seconds):
        self.order.append(name)
        self.now += seconds * (10 if self.now > self.slow_from else 1)


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.REST_S", 0.0)


def test_quartiles_and_medians():
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(2.0, 3.0, 4.0)
    assert spread([2.0]) == Spread(2.0, 2.0, 2.0)
    assert ratios([2.0, 6.0, 8.0], [1.0, 2.0, 2.0]) == Spread(2.5, 3.0, 3.5)


def test_a_machine_that_slows_down_does_not_change_a_ratio():
    machine = Machine(slow_from=3.0)
    runs = {"ours": lambda: machine.work("ours", 0.1), "peer": lambda: machine.work("peer", 0.3)}
    times = time_in_turns(runs, Budget(1e9, 3, 20), clock=machine.clock)
    assert len(times["ours"]) == len(times["peer"]) == 20
    ratio = ratios(times["peer"], times["ours"])
    assert ratio.median == pytest.approx(3.0)
    assert max(times["ours"]) == pytest.approx(1.0)
    # Two runs to warm up and to find the repeats, then each once a round.
    rounds = [frozenset(machine.order[i : i + 2]) for i in range(4, len(machine.order), 2)]
    assert set(rounds) == {frozenset(("ours", "peer"))}
    assert gc.isenabled()


def test_short_work_is_repeated_and_a_budget_ends_a_case():
    machine = Machine()
    times = time_in_turns({"ours": lambda: machine.work("ours", 1e-3)}, Budget(0.095, 3, 1000), clock=machine.clock)
    assert times["ours"] == pytest.approx([1e-3] * len(times["ours"]))
    assert len(times["ours"]) == 10  # ten repeats of 1 ms a round
    slow = time_in_turns({"ours": lambda: machine.work("ours", 5.0)}, Budget(0.1, 3, 1000), clock=machine.clock)
    assert len(slow["ours"]) == 3
