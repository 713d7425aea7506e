"""What is told of the steps between two records, skipped ones among them."""

import math

import pytest
import torch

from s4aug_train.engine.interval import Interval
from s4aug_train.engine.state import Outcome
from s4aug_train.errors import ConfigError, TrainingError
from s4aug_train.methods import Losses
from s4aug_train.ranks import ALONE
from s4aug_train.records import Note, StepRecord

CPU = torch.device("cpu")


def outcome(loss, skipped=False):
    values = {"loss": loss, "loss_supervised": loss, "loss_consistency": 0.0, "valid_fraction": 0.5, "sure": 0.25}
    return Outcome({name: torch.tensor(value) for name, value in values.items()}, torch.tensor(bool(skipped)))


def filled(flags, *, limit=3):
    interval = Interval(6, CPU, ALONE, limit=limit)
    for number, skipped in enumerate(flags):
        interval.add(outcome(math.nan if skipped else float(number), skipped), (f"tile{number}", "other"), 0.0)
    return interval


def test_skipped_steps_are_counted_named_and_left_out_of_the_means():
    note, record = filled([0, 1, 0, 1, 0]).records(25, 0.01, 2.0)
    assert isinstance(note, Note)
    assert note.text == ("2 of 5 steps skipped: loss or gradient not finite, first at step 22 on tiles tile1, other")
    assert isinstance(record, StepRecord)
    assert (record.loss, record.skipped, record.extra) == (2.0, 2, {"sure": 0.25})


def test_means_of_no_step_are_no_number_and_null_in_json():
    _, record = filled([1, 1]).records(2, 0.01, 2.0)
    assert math.isnan(record.loss)
    assert record.to_dict()["loss"] is None


def test_too_many_in_a_row_end_the_run_with_the_tiles():
    with pytest.raises(TrainingError, match=r"3 steps in a row, to step 23, .* tiles tile3, other: begin a new run"):
        list(filled([0, 1, 1, 1, 0]).records(24, 0.01, 2.0))
    list(filled([1, 1, 0, 1, 1]).records(5, 0.01, 2.0))


def test_a_row_goes_on_over_records_and_checks():
    interval = filled([1, 1])
    assert interval.check(2) == [0, 1]
    assert interval.check(2) == [0, 1]  # counted once
    list(interval.records(2, 0.01, 2.0))
    interval.begin()
    interval.add(outcome(0.0, True), ("last",), 0.0)
    with pytest.raises(TrainingError, match="3 steps in a row, to step 3, .* tiles last"):
        interval.check(3)


@pytest.mark.parametrize("name", ["lr", "lambda", "loss", "miou", "iou"])
def test_a_method_must_not_take_a_name_of_the_record(name):
    one = torch.tensor(1.0)
    with pytest.raises(ConfigError, match=f"extra must not be called {name}"):
        Losses(one, one, one, one, extra={name: one}).told()


def test_what_a_method_tells_besides_comes_in_any_order_but_in_each_step():
    interval, one, other = Interval(6, CPU, ALONE, limit=3), outcome(1.0), outcome(3.0)
    interval.add(one, (), 0.0)
    interval.add(Outcome(dict(reversed(other.told.items())), other.skipped), (), 0.0)
    (record,) = interval.records(2, 0.01, 2.0)
    assert (record.loss, record.valid_fraction) == (2.0, 0.5)
    other.told["entropy"] = other.told.pop("sure")
    with pytest.raises(ConfigError, match="holds entropy, sure in some steps alone; give all in each"):
        interval.add(other, (), 0.0)
