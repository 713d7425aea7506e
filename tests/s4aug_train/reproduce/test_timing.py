"""How long a grid takes."""

import pytest

from s4aug_train.presets import configured
from s4aug_train.reproduce import timing
from s4aug_train.reproduce.grid import Cell
from s4aug_train.reproduce.survey import Survey
from s4aug_train.reproduce.timing import Pace, told

CONFIG = configured({"train.steps": 1000, "train.crop": 256, "train.window": 256, "train.stride": 256})
CELLS = [Cell("supervised", 100, seed) for seed in range(4)]


def pace(jobs=1, **step_s):
    return Pace(jobs, (512, 768), 10, step_s)


def test_a_run_takes_its_steps_and_one_evaluation():
    # 2 x 3 windows of a crop's size on each of 10 tiles, a third of a training crop's time each.
    assert pace(supervised=0.4).run_s("supervised", CONFIG) == pytest.approx(1000 * 0.4 + 60 * 0.4 / 4 / 3)
    # S4Net shows 4 labelled crops and two views of 2.
    assert pace(s4net=0.8).run_s("s4net", CONFIG) == pytest.approx(1000 * 0.8 + 60 * 0.8 / 8 / 3)


def test_runs_share_the_jobs_and_the_longest_is_waited_for():
    configs = dict.fromkeys(CELLS, CONFIG)
    whole = pace(supervised=0.4).run_s("supervised", CONFIG)
    assert pace(supervised=0.4).left_s(dict.fromkeys(CELLS, 1.0), configs) == pytest.approx(4 * whole)
    assert pace(2, supervised=0.4).left_s(dict.fromkeys(CELLS, 0.5), configs) == pytest.approx(whole)
    assert pace(9, supervised=0.4).left_s(dict.fromkeys(CELLS, 1.0), configs) == pytest.approx(whole)
    assert pace().left_s({}, configs) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (5300, "88 min"), (7200, "2.0 h"), (4e5, "111.1 h")],
)
def test_durations_are_told_in_their_unit(seconds, text):
    assert told(seconds) == text


def test_a_few_steps_are_timed(monkeypatch):
    monkeypatch.setattr(timing, "ENOUGH_S", 0.0)
    small = {"train.crop": 64, "model.encoder": "resnet18", "train.batch_labeled": 2, "train.batch_unlabeled": 1}
    config = configured({"data.path": "demo", "method.name": "s4net", "train.device": "cpu", **small})
    survey = Survey(9, 3, (64, 64), 4, tuple("abcde"), "tiles")
    assert 0 < timing.timed(config, survey, 1) < 60


def test_on_the_cpu_several_share_its_cores(monkeypatch):
    monkeypatch.setattr(timing, "step_seconds", lambda config, bands, classes: 0.5)
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 8)
    config, survey = CONFIG.updated({"train.device": "cpu"}), Survey(9, 3, (64, 64), 3, (), "tiles")
    assert [timing.timed(config, survey, jobs) for jobs in (1, 4)] == [0.5, 2.0]
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 1)
    assert timing.timed(config, survey, 4) == 0.5
