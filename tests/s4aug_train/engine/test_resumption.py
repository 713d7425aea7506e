"""A run goes on from the newest checkpoint that can be read; those passed over are told of."""

import errno
import os
from dataclasses import replace

import pytest
import torch

from s4aug_train.config import Config
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.split import Split
from s4aug_train.engine import Checkpoint, chosen, newest
from s4aug_train.errors import CheckpointError
from s4aug_train.run import RunFolder

NORMALIZATION = Normalization((1.0,) * 3, (1.0,) * 3, "measured")
SMALL = Checkpoint(
    0, Config(), DEEPGLOBE, 3, "uint8", NORMALIZATION, Split(("a",), (), ()), None, {"w": torch.zeros(9)}, {}
)


@pytest.fixture
def run(tmp_path):
    """A run of three checkpoints: the last of step 3, the one before of step 2, the best of step 1."""
    run = RunFolder(tmp_path)
    for step, path in enumerate(reversed(run.checkpoints), 1):
        replace(SMALL, step=step).write(path)
    return run


@pytest.mark.parametrize(("missing", "step"), [(0, 3), (1, 2), (2, 1)])
def test_missing_checkpoints_are_no_reason_for_a_warning(run, missing, step):
    for path in run.checkpoints[:missing]:
        path.unlink()
    found = newest(run)
    assert (found.checkpoint.step, found.path) == (step, run.checkpoints[missing])
    assert not found.passed_over


@pytest.mark.parametrize("damaged", [1, 2])
def test_each_damaged_checkpoint_is_named_with_the_reason_and_what_was_taken(run, damaged):
    for path in run.checkpoints[:damaged]:
        path.write_bytes(path.read_bytes()[:-1])
    found = newest(run)
    assert found.path == run.checkpoints[damaged]
    assert list(found.passed_over) == list(run.checkpoints[:damaged])
    for path, warning in found.passed_over.items():
        assert f"{path} was passed over (damaged or not one of ours: BadZipFile)" in warning
        assert f"going on from {found.path} (step {found.checkpoint.step})" in warning


def test_where_none_can_be_read_nothing_begins_anew(run):
    run.best.unlink()
    run.last.write_bytes(b"")
    torch.save({"version": 0}, run.previous)
    with pytest.raises(CheckpointError, match=r"can be read \(last.pt: .*; previous.pt: not one of ours.*--overwrite"):
        newest(run)


def test_a_run_without_checkpoints_has_nothing_to_go_on_from(tmp_path):
    assert newest(RunFolder(tmp_path)) is None


def test_a_damaged_last_checkpoint_is_told_of_also_where_another_was_chosen(run, tmp_path):
    assert not chosen(run.previous, run).passed_over
    run.last.write_bytes(b"x")
    assert list(chosen(run.previous, run).passed_over) == [run.last]
    with pytest.raises(CheckpointError, match="damaged"):
        chosen(run.last, run)


@pytest.mark.parametrize(
    ("number", "passed_over"), [(errno.EIO, True), (errno.EMFILE, False), (errno.EACCES, False), (errno.ESTALE, False)]
)
def test_what_a_file_cannot_help_is_no_reason_to_pass_over_it(run, monkeypatch, number, passed_over):
    read = torch.load

    def failing(path, **options):
        if path == run.last:
            raise OSError(number, os.strerror(number))
        return read(path, **options)

    monkeypatch.setattr(torch, "load", failing)
    if passed_over:
        assert list(newest(run).damaged) == [run.last]
        return
    with pytest.raises(CheckpointError, match=f"cannot read {run.last}: {os.strerror(number)}; check its permissions"):
        newest(run)
    assert run.last.exists()
