import copy
import math
import time

import numpy as np
import pytest
import torch

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.pool import Pool
from s4aug_train.engine import Loader, TrainingState, train
from s4aug_train.errors import TrainingError
from s4aug_train.limits import CHOICES
from s4aug_train.methods import Setup, make_method
from s4aug_train.presets import configured
from s4aug_train.records import EvaluationRecord, StepRecord, Stopped

CPU = torch.device("cpu")


@pytest.fixture
def set_up(make_tile):
    """A function that makes state, method and loader of a small run."""

    def make(**settings):
        config = configured({"train.steps": 12, "train.crop": 64, "train.log_every": 3, "train.workers": 0, **settings})
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1))
        normalization = Normalization((127.0,) * 3, (60.0,) * 3, "measured")
        method = make_method(Setup(config, normalization, 6))
        tiles = [make_tile((80, 80), name=str(i), seed=i) for i in range(5)]
        loader = Loader(
            Pool(tiles, 64, labelled=True),
            Pool(tiles, 64, labelled=False),
            config.train.batch_labeled,
            config.train.batch_unlabeled,
            config.train.seed,
            method.weight,
            config.train.workers,
            CPU,
        )
        return TrainingState(network, method, config.train, CPU), loader

    return make


def fake_evaluation(step, miou=0.5):
    return EvaluationRecord(step, miou, {"a": miou}, [[1]], ["a"], 1)


def run(parts, **options):
    state, loader = parts
    saved = []
    options = {"evaluate": fake_evaluation, "save": lambda best: saved.append((state.step, best)), **options}
    return list(train(state, loader, **options)), saved


def whole_state(parts):
    """Every tensor that going on needs, by name."""

    def flat(value, name=""):
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, dict):
            for key, part in value.items():
                yield from flat(part, f"{name}.{key}")

    state = parts[0]
    return dict(flat({"network": state.network.state_dict(), **state.state_dict()}))


def weights(parts):
    return parts[0].network.state_dict()["0.weight"].clone()


def test_records_come_at_their_intervals_and_at_the_end(set_up):
    parts = set_up(**{"train.steps": 10, "train.evaluate_every": 4, "train.checkpoint_every": 100})
    records, saved = run(parts)
    assert [r.step for r in records if isinstance(r, StepRecord)] == [3, 6, 9, 10]
    assert [r.step for r in records if isinstance(r, EvaluationRecord)] == [4, 8, 10]
    # Before and after each evaluation; the first is the best so far, equal ones later are not better.
    assert saved == [(4, False), (4, True), (8, False), (8, False), (10, False), (10, False)]


@pytest.mark.parametrize(
    ("steps", "evaluated"),
    [(9, [2, 4, 6, 8, 9]), (10, [2, 4, 6, 8, 10]), (3, [1, 2, 3]), (24, [5, 10, 15, 20, 24])],
)
def test_it_is_evaluated_five_times_in_a_run_unless_said_otherwise(set_up, steps, evaluated):
    records, _ = run(set_up(**{"train.steps": steps}))
    assert [r.step for r in records if isinstance(r, EvaluationRecord)] == evaluated


def test_the_learning_rate_is_a_cosine_to_zero(set_up):
    parts = set_up(**{"train.log_every": 1})
    records, _ = run(parts)
    rates = [r.lr for r in records if isinstance(r, StepRecord)]
    assert rates == pytest.approx([0.01 * (1 + math.cos(math.pi * t / 12)) / 2 for t in range(12)])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train.schedule": "poly"}, lambda t: 0.01 * (1 - t / 12) ** 0.9),
        ({"train.schedule": "constant"}, lambda t: 0.01),
        ({"train.schedule": "constant", "train.warmup": 4}, lambda t: 0.01 * min((t + 1) / 4, 1)),
    ],
)
def test_other_schedules(set_up, settings, expected):
    records, _ = run(set_up(**{"train.log_every": 1, **settings}))
    rates = [r.lr for r in records if isinstance(r, StepRecord)]
    assert rates == pytest.approx([expected(t) for t in range(12)])


def test_one_step_is_plain_sgd_with_momentum_and_decay(set_up):
    parts = set_up(**{"method.name": "supervised"})
    state, loader = parts
    before, buffer = weights(parts), None
    for step in range(3):
        (batch,) = loader.batch(step)
        twin = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1))
        twin.load_state_dict(state.network.state_dict())
        state.method.losses(twin, batch, None).total.backward()
        gradient = twin[0].weight.grad + 1e-4 * before
        buffer = gradient if buffer is None else 0.9 * buffer + gradient
        rate = 0.01 * (1 + math.cos(math.pi * step / 12)) / 2
        state.train_on([batch])
        torch.testing.assert_close(weights(parts), before - rate * buffer, rtol=1e-5, atol=1e-7)
        before = weights(parts)


def test_threads_that_read_ahead_change_nothing(set_up):
    alone, threaded = set_up(), set_up(**{"train.workers": 3})
    run(alone)
    run(threaded)
    assert torch.equal(weights(alone), weights(threaded))


@pytest.mark.parametrize(
    ("name", "stop"), [("s4net", 1), ("s4net", 11), *((name, 5) for name in CHOICES["method.name"])]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(set_up, name, stop):
    whole = set_up(**{"method.name": name})
    run(whole)
    first = set_up(**{"method.name": name})
    run(first, should_stop=lambda: first[0].step >= stop)
    assert first[0].step == stop
    second = set_up(**{"method.name": name})
    second[0].load(stop, None, *copy.deepcopy((first[0].network.state_dict(), first[0].state_dict())))
    run(second)
    expected, found = whole_state(whole), whole_state(second)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_stop_saves_at_once(set_up):
    parts = set_up(**{"train.checkpoint_every": 100})
    records, saved = run(parts, should_stop=lambda: parts[0].step >= 2)
    assert saved == [(2, False)]
    assert records == [Stopped(2)]


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(set_up):
    parts = set_up(**{"train.lr": 1e30, "train.checkpoint_every": 1, "method.name": "supervised"})
    saved_weights = []
    with pytest.raises(TrainingError, match=r"not finite at step.*train\.lr"):
        run(parts, save=lambda best: saved_weights.append(weights(parts)))
    assert len(saved_weights) < 12


def test_logged_losses_are_means_over_the_interval(set_up):
    each, _ = run(set_up(**{"train.log_every": 1}))
    thirds, _ = run(set_up(**{"train.log_every": 3}))
    singles = [r.loss for r in each if isinstance(r, StepRecord)]
    means = [r.loss for r in thirds if isinstance(r, StepRecord)]
    assert means == pytest.approx([np.mean(singles[i : i + 3]) for i in range(0, 12, 3)], rel=1e-5)


def test_an_evaluation_that_was_given_up_is_made_up_for(set_up):
    settings = {"train.evaluate_every": 4, "train.steps": 6}
    first = set_up(**settings)
    stop = []

    def interrupted(step):
        stop.append(step)

    records, _ = run(first, evaluate=interrupted, should_stop=lambda: bool(stop))
    assert first[0].step == 4
    assert not any(isinstance(r, EvaluationRecord) for r in records)
    again = set_up(**settings)
    again[0].load(4, None, first[0].network.state_dict(), first[0].state_dict())
    # Stopped once more in the same evaluation: it stays due.
    assert run(again, evaluate=interrupted, should_stop=lambda: True) == ([Stopped(4)], [])
    assert again[0].step == 4
    second = set_up(**settings)
    second[0].load(4, None, first[0].network.state_dict(), first[0].state_dict())
    records, _ = run(second)
    assert [r.step for r in records if isinstance(r, EvaluationRecord)] == [4, 6]


def test_a_finished_run_does_nothing_more(set_up):
    first = set_up()
    run(first)
    second = set_up()
    second[0].load(12, 0.5, first[0].network.state_dict(), first[0].state_dict())
    assert run(second) == ([], [])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_on_the_cpu(set_up, precision):
    parts = set_up(**{"train.precision": precision})
    before = weights(parts)
    records, _ = run(parts)
    assert weights(parts).dtype == torch.float32
    assert not torch.equal(weights(parts), before)
    assert all(math.isfinite(r.loss) for r in records if isinstance(r, StepRecord))


def test_what_the_consumer_of_records_does_is_not_counted_as_training(set_up, monkeypatch):
    state, loader = set_up(**{"train.log_every": 6})
    away, clock = [], time.perf_counter
    monkeypatch.setattr("s4aug_train.engine.loop.time.perf_counter", lambda: clock() + sum(away))
    records = []
    for record in train(state, loader, evaluate=fake_evaluation, save=lambda best: None):
        records.append(record)
        away.append(1e6)
    second = [record for record in records if isinstance(record, StepRecord)][1]
    assert second.images_per_s > 1
