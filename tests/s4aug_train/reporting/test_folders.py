"""Folders of runs are read as far as they go, and what is not there is told."""

import json

import pytest

from s4aug_train.config import Config
from s4aug_train.data.split import Split
from s4aug_train.errors import CheckpointError
from s4aug_train.reporting.folders import places_of, read_run


@pytest.fixture
def make(tmp_path):
    """A function that makes a run folder without a network."""

    def made(name, *, checkpoint="last.pt"):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text(Config().to_yaml())
        (folder / "env.json").write_text('{"torch": "2.14"}')
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.5}\n{"step": 2, "lo')
        Split(("a",), ("b", "c"), ("d",)).write(folder / "splits.json")
        if checkpoint:
            (folder / "checkpoints" / checkpoint).write_bytes(b"weights")
        return folder

    return made


def test_names_are_as_short_as_can_be_told_apart(make):
    one, two, three = make("x/run"), make("y/run"), make("y/other")
    names = lambda *paths: [place.name for place in places_of(paths)]  # noqa: E731
    assert names(two, three) == ["run", "other"]
    assert names(one, two) == ["x/run", "y/run"]
    assert names(one, one) == ["run", "run (2)"]
    (one / "checkpoints" / "best.pt").write_bytes(b"weights")
    assert names(one / "checkpoints/last.pt", one / "checkpoints/best.pt") == ["run", "run/best.pt"]


def test_a_run_is_read_whole_and_its_cut_last_line_left_out(make):
    run, notes = read_run(places_of([make("run")])[0])
    assert notes == []
    assert run.settings["train.steps"] == 100_000
    assert run.environment == {"torch": "2.14"}
    assert run.lines == ({"step": 1, "loss": 1.5},)
    assert run.counts == {"labeled": 1, "unlabeled": 2, "val": 1}


@pytest.mark.parametrize("name", ["config.yaml", "env.json", "metrics.jsonl", "splits.json"])
@pytest.mark.parametrize("content", [None, "[1, 2\n{}\n{}", json.dumps([1])])
def test_a_damaged_or_missing_file_is_told_and_the_others_are_read(make, name, content):
    folder = make("run")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    run, notes = read_run(places_of([folder])[0])
    read = [bool(run.settings), bool(run.environment), bool(run.lines), bool(run.counts)]
    assert read.count(False) == 1 or (name == "metrics.jsonl" and content == "[1]")
    if read.count(False) and not (name == "metrics.jsonl" and content == "[1]"):
        assert len(notes) == 1
        assert name in notes[0]


def test_a_run_that_has_no_checkpoint_yet_is_a_run_and_an_empty_folder_none(make, tmp_path):
    (place,) = places_of([make("begun", checkpoint=None)])
    assert place.checkpoint is None
    (tmp_path / "empty").mkdir()
    for path in ("empty", "absent"):
        with pytest.raises(CheckpointError, match="give a run folder"):
            places_of([tmp_path / path])


def test_a_checkpoint_outside_a_run_has_no_curves_and_says_so(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"weights")
    run, notes = read_run(places_of([tmp_path / "a.pt"])[0])
    assert (run.name, run.lines) == ("a.pt", ())
    assert notes == ["a.pt is a checkpoint outside a run folder: it has no learning curves."]
