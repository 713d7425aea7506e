"""`fit --resume` beside damaged checkpoints: they are passed over, told of and kept."""

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch

from s4aug_train.data.split import Split
from s4aug_train.run import RunFolder
from tests.s4aug_train.command import call


@pytest.fixture(scope="module")
def whole(tmp_path_factory, demo_folder, shared_cache):
    """A finished run of 3 steps with all its checkpoints."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    settings = [f"--set=train.{each}" for each in ("window=64", "stride=64", "checkpoint_every=1", "evaluate_every=3")]
    quick = ["--preset", "quick", "--weights", "none", "--crop", 64, "--labeled", 4, "--val", 2, "--steps", 3]
    call("fit", "--data", demo_folder, "--out", out, *quick, *settings)
    return out


@pytest.fixture
def run(whole, tmp_path):
    return RunFolder(shutil.copytree(whole, tmp_path / "run"))


class Bomb:
    """Makes a folder where it is unpickled by whoever runs what a pickle says."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def hash_of(content):
    return hashlib.sha256(content).hexdigest()


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def torch_bomb(folder):
    file = io.BytesIO()
    torch.save({"version": 1, "step": Bomb(folder)}, file)
    return file.getvalue()


DAMAGES = {
    "empty": lambda content, folder: b"",
    "ten bytes": lambda content, folder: content[:10],
    "half": lambda content, folder: content[: len(content) // 2],
    "all but one byte": lambda content, folder: content[:-1],
    "text": lambda content, folder: b"not a checkpoint\n",
    "another zip": lambda content, folder: zipped("readme.txt", b"not a checkpoint"),
    "a pickle that runs code": lambda content, folder: pickle.dumps(Bomb(folder)),
    "a torch file that runs code": lambda content, folder: torch_bomb(folder),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_last_checkpoint_is_passed_over_told_of_and_kept(whole, run, tmp_path, damage):
    damaged = DAMAGES[damage](run.last.read_bytes(), tmp_path / "exploded")
    run.last.write_bytes(damaged)
    result = call("fit", "--out", run.path, "--resume")
    warning = next(line for line in result.stderr.splitlines() if line.startswith("warning"))
    assert f"{run.last} was passed over (" in warning
    assert f"going on from {run.previous} (step 3); the damaged file is kept as last.pt.damaged" in warning
    assert warning in run.log.read_text()
    assert hash_of(run.last.with_name("last.pt.damaged").read_bytes()) == hash_of(damaged)
    assert not (tmp_path / "exploded").exists()
    # Previous.pt is of before the last evaluation, which comes again.
    assert "s4net after 3 steps" in result.stdout
    found, expected = (torch.load(path, weights_only=True) for path in (run.last, whole / "checkpoints" / "last.pt"))
    assert all(torch.equal(value, expected["network"][name]) for name, value in found["network"].items())


def test_the_checkpoint_that_was_taken_is_not_lost_to_the_damaged_one(run):
    run.last.write_bytes(b"")
    before = torch.load(run.previous, weights_only=True)
    call("fit", "--out", run.path, "--resume")
    assert torch.load(run.previous, weights_only=True)["training"]["evaluated"] == before["training"]["evaluated"]


def test_with_two_damaged_the_best_is_taken_and_the_run_is_whole_again(run):
    for path in (run.last, run.previous):
        path.write_bytes(b"damaged")
    result = call("fit", "--out", run.path, "--resume")
    assert [line.startswith("warning") for line in result.stderr.splitlines()].count(True) == 2
    assert "finished before" in result.stdout
    kept = {path.name: path.read_bytes() for path in run.last.parent.glob("*.damaged")}
    assert kept == {"last.pt.damaged": b"damaged", "previous.pt.damaged": b"damaged"}
    assert torch.load(run.last, weights_only=True)["step"] == 3
    call("evaluate", run.path)


def test_where_no_checkpoint_can_be_read_nothing_begins_anew(run):
    for path in run.checkpoints:
        path.write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    (line,) = call("fit", "--out", run.path, "--resume", code=1).stderr.splitlines()
    assert all(path.name in line for path in run.checkpoints)
    assert "put a copy of one back, or begin anew with --overwrite or another --out" in line
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_that_is_named_is_an_error(run):
    run.last.write_bytes(b"damaged")
    for arguments in (["fit", "--resume", run.last], ["evaluate", run.path]):
        (line,) = call(*arguments, code=1).stderr.splitlines()
        assert f"{run.last} cannot be read as a checkpoint" in line
        assert "previous.pt" in line
    assert run.last.read_bytes() == b"damaged"


def test_a_damaged_last_checkpoint_is_kept_also_where_another_is_named(run):
    run.last.write_bytes(b"damaged")
    assert "last.pt was passed over" in call("fit", "--resume", run.previous).stderr
    assert run.last.with_name("last.pt.damaged").read_bytes() == b"damaged"
    assert torch.load(run.previous, weights_only=True)["training"]["evaluated"] == 0


@pytest.mark.parametrize("change", [("train.seed", "  seed: 0", "  seed: 7"), ("split", None, None)])
def test_a_checkpoint_of_another_run_is_not_put_into_a_folder_that_holds_one(run, tmp_path, change):
    named, old, new = change
    other = RunFolder(shutil.copytree(run.path, tmp_path / "other"))
    if old is None:
        split = Split.read(other.split)
        replace(split, labeled=split.labeled[1:], unlabeled=(*split.unlabeled, split.labeled[0])).write(other.split)
    else:
        text = other.config.read_text()
        other.config.write_text(text.replace(old, new))
        assert other.config.read_text() != text
    before = {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()}
    (line,) = call("fit", "--resume", run.last, "--out", other.path, code=1).stderr.splitlines()
    assert f"--out {other.path} holds another run than {run.last} is of, with {named} (was " in line
    assert "go on with --out in another folder" in line
    assert before == {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()}


def test_a_backup_is_put_back_into_the_folder_of_its_run(run, tmp_path):
    backup = shutil.copy(run.last, tmp_path / "backup.pt")
    run.last.unlink()
    assert "finished before" in call("fit", "--resume", backup, "--out", run.path).stdout
    assert torch.load(run.last, weights_only=True)["step"] == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--steps", "9"], "train.steps (was 3, now 9)"),
        (["--labeled", "3"], "data.labeled (was 4, now 3)"),
        (["--split", "other.json"], "split (was "),
        (["--classes", "classes.csv"], "classes (was urban_land, "),
    ],
)
def test_another_schedule_split_or_class_table_is_refused_by_name(run, monkeypatch, changes, named):
    monkeypatch.chdir(run.path)
    write_others(run)
    (line,) = call("fit", "--out", ".", "--resume", *changes, code=1).stderr.splitlines()
    assert "a resumed run cannot change" in line
    assert named in line


def write_others(run):
    """Beside the run: another split of its tiles, and its class table with one name changed."""
    from s4aug_train.data.palette import DEEPGLOBE, ClassTable

    split = Split.read(run.split)
    Split(split.labeled[1:], (*split.unlabeled, split.labeled[0]), split.val).write(run.path / "other.json")
    first, *rest = DEEPGLOBE.entries
    ClassTable((replace(first, name="town"), *rest)).write(run.path / "classes.csv")


def test_a_stop_that_another_process_was_asked_for_is_told_as_one(run, monkeypatch):
    # As if one of several processes had the signal: the steps since are made again.
    run.last.unlink()
    run.best.unlink()
    monkeypatch.setattr("s4aug_train.ranks.Ranks.any", lambda ranks, flag: True)
    result = call("fit", "--out", run.path, "--resume", code=143)
    assert result.stderr.splitlines()[-1] == f"stopped; go on with: s4aug-train fit --out {run.path} --resume"
    assert "finished before" not in result.stdout


def test_a_later_attempt_of_one_launch_goes_on_and_another_launch_does_not(run, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/tmp/elastic/none_ab/attempt_1/0/error.json")
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    (line,) = call("fit", "--data", "demo", "--out", run.path, code=1).stderr.splitlines()
    assert "is not empty" in line
    kept = json.loads(run.environment.read_text())
    run.environment.write_text(json.dumps({**kept, "launches": ["/tmp/elastic/none_ab"]}))
    for flags in ([], ["--overwrite"], ["--resume", run.best]):
        assert "finished before" in call("fit", "--out", run.path, *flags).stdout
