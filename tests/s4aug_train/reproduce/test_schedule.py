"""Several processes at once, signals passed on, none left behind."""

import signal
from dataclasses import dataclass, field

import pytest

from s4aug_train.reproduce import schedule
from s4aug_train.reproduce.grid import Cell
from s4aug_train.reproduce.schedule import Begun, Ended, Going, work_off

CELLS = [Cell("s4net", 20, seed) for seed in range(7)]


@dataclass
class Fake:
    """Ends after so many looks, or when it is asked to."""

    looks: int
    code: int = 0
    stubborn: bool = False
    heard: list[int] = field(default_factory=list)
    killed: bool = False

    def poll(self):
        self.looks -= 1
        if self.killed:
            return -9
        if self.heard and not self.stubborn:
            return 128 + self.heard[0]
        return self.code if self.looks <= 0 else None

    def send_signal(self, number):
        self.heard.append(number)

    def kill(self):
        self.killed = True


class Starter:
    def __init__(self, looks=lambda cell: 3):
        self.looks, self.began, self.processes = looks, [], {}

    def __call__(self, cell, slot):
        self.began.append((cell, slot))
        self.processes[cell] = Fake(self.looks(cell))
        return self.processes[cell]


@pytest.mark.parametrize("jobs", [1, 2, 3, 20])
def test_each_run_is_done_once_and_no_more_than_jobs_at_a_time(jobs):
    start, running, slots = Starter(lambda cell: 2 + cell.seed % 3), set(), {}
    for event in work_off(CELLS, start, jobs, [], pause_s=0):
        if isinstance(event, Begun):
            slot = dict(start.began)[event.cell]
            assert slot not in {slots[cell] for cell in running}
            slots[event.cell] = slot
            running.add(event.cell)
        if isinstance(event, Ended):
            running.remove(event.cell)
        assert len(running) <= jobs
    assert [cell for cell, _ in start.began] == CELLS
    assert set(slots.values()) == set(range(min(jobs, len(CELLS))))


def test_a_signal_is_passed_on_once_and_nothing_new_begins():
    start, signals, ended = Starter(lambda cell: 100), [], []
    for event in work_off(CELLS, start, 2, signals, pause_s=0):
        if isinstance(event, Going) and len(start.began) == 2 and not signals:
            signals.append(signal.SIGTERM)
        if isinstance(event, Ended):
            ended.append(event)
    assert [cell for cell, _ in start.began] == CELLS[:2]
    assert ended == [Ended(cell, 143) for cell in CELLS[:2]]
    assert all(process.heard == [signal.SIGTERM] for process in start.processes.values())


def test_nothing_begins_where_a_signal_came_before():
    start = Starter()
    assert list(work_off(CELLS, start, 2, [2], pause_s=0)) == []
    assert start.began == []


def test_processes_are_stopped_when_the_loop_is_left():
    start = Starter(lambda cell: 100)
    events = work_off(CELLS, start, 2, [], pause_s=0)
    while not isinstance(next(events), Going):
        pass
    events.close()
    assert all(process.heard == [signal.SIGTERM] for process in start.processes.values())


def test_a_process_that_does_not_stop_is_ended(monkeypatch):
    monkeypatch.setattr(schedule, "GRACE_S", 0.0)
    process = Fake(100, stubborn=True)
    events = work_off(CELLS[:1], lambda cell, slot: process, 1, [], pause_s=0)
    next(events)
    events.close()
    assert process.killed


def test_where_one_cannot_begin_the_others_are_stopped():
    start = Starter(lambda cell: 100)

    def failing(cell, slot):
        if cell.seed == 1:
            raise OSError("no memory")
        return start(cell, slot)

    with pytest.raises(OSError, match="no memory"):
        list(work_off(CELLS, failing, 2, [], pause_s=0))
    assert start.processes[CELLS[0]].heard == [signal.SIGTERM]
