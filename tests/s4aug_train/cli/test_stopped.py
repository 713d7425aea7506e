"""Runs that are stopped, killed, copied or given up: how they go on."""

import json
import shutil
import signal

import pytest
import torch

from tests.s4aug_train.cli.cli_cases import fit_arguments, start, wait_for_steps
from tests.s4aug_train.command import call, failure


def call_with_one_thread(*arguments):
    """In this process, to the bits of one that `start` began."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return call(*arguments)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, demo_folder, shared_cache):
    out = tmp_path_factory.mktemp("whole") / "run"
    call_with_one_thread(*fit_arguments(demo_folder, out, *LONG))
    return torch.load(out / "checkpoints/last.pt", weights_only=True)


LONG = ["--steps", 16, "--set", "train.checkpoint_every=5", "--set", "train.evaluate_every=16"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_to_the_same_weights(demo_folder, tmp_path, uninterrupted, number, code):
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = fit_arguments(demo_folder, out, *LONG)
    with start(arguments, log) as process:
        wait_for_steps(out, 6, process)
        process.send_signal(number)
        assert process.wait(120) == code, log.read_text()
    stopped = torch.load(out / "checkpoints/last.pt", weights_only=True)["step"]
    assert 0 < stopped < 16
    assert f"s4aug-train fit --out {out} --resume" in log.read_text()
    call_with_one_thread("fit", "--out", out, "--resume")
    finished = torch.load(out / "checkpoints/last.pt", weights_only=True)
    assert finished["step"] == 16
    for name, value in uninterrupted["network"].items():
        assert torch.equal(value, finished["network"][name]), name
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 17))


def test_a_run_killed_before_its_first_checkpoint_begins_anew(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((run[0] / "config.yaml").read_text())
    call("fit", "--out", tmp_path / "run", "--resume")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_a_copied_checkpoint_goes_on_in_the_folder_that_is_named(run, tmp_path):
    copy = tmp_path / "backup" / "last.pt"
    copy.parent.mkdir()
    copy.write_bytes((run[0] / "checkpoints" / "last.pt").read_bytes())
    assert "--out" in failure("fit", "--resume", copy)
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    call("fit", "--resume", copy, "--out", tmp_path / "next")
    assert "finished before" in call("fit", "--resume", "--out", tmp_path / "next").stdout


def test_resume_falls_back_to_the_best_checkpoint(run, tmp_path):
    copy = shutil.copytree(run[0], tmp_path / "copy")
    for name in ("last.pt", "previous.pt"):
        (copy / "checkpoints" / name).unlink()
    call("fit", "--out", copy, "--resume")
    steps = [json.loads(line)["step"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 3


def test_overwrite_keeps_the_old_run_until_the_new_one_is_ready(demo_folder, tmp_path):
    call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 1))
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    failure(*fit_arguments(demo_folder / "typo", tmp_path / "run", "--overwrite"))
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before
    call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 2, "--overwrite"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]


def test_resume_auto_begins_where_there_is_nothing(demo_folder, tmp_path):
    call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 1, "--resume", "auto"))
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_resuming_a_finished_run_says_so(run):
    result = call("fit", "--out", run[0], "--resume")
    assert "finished before" in result.stdout


@pytest.mark.parametrize("left", [0, 1, 3])
def test_an_evaluation_that_its_metrics_have_lost_is_made_again(run, tmp_path, left):
    """A last line that was not on the disk yet when the power failed; a damaged file that was deleted."""
    copy = shutil.copytree(run[0], tmp_path / "copy")
    metrics = copy / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:left])) if left else metrics.unlink()
    call("fit", "--out", copy, "--resume")
    again = metrics.read_text().splitlines(keepends=True)
    assert again[:left] == lines[:left]
    (made,) = (json.loads(line) for line in again[left:])
    was = next(line for line in map(json.loads, reversed(lines)) if "miou" in line)
    assert (made["step"], made["miou"], made["iou"]) == (was["step"], was["miou"], was["iou"])
    assert "finished before" in call("fit", "--out", copy, "--resume").stdout


def test_resume_refuses_another_setting_by_name(run, demo_folder):
    line = failure("fit", "--out", run[0], "--resume", "--set", "train.lr=0.5")
    assert "train.lr (was 0.01, now 0.5)" in line
