"""Nothing is lost, and nothing differs, when a run is killed at any moment or its disk is full."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

from s4aug_train.limits import CHOICES

STEPS = 10
SMALL = f"""--preset quick --weights none --crop 64 --labeled 4 --val 2 --steps {STEPS} --batch-labeled 2
--batch-unlabeled 2 --set train.window=64 --set train.stride=64 --set train.log_every=1 --set train.checkpoint_every=1
--set train.evaluate_every={STEPS} --set train.workers=0 --set method.semi_start=0""".split()
PATIENCE_S = 900  # a process begins in 6 s, or in minutes where others share the cores
pytestmark = pytest.mark.timeout(7200)
BEGUN = "tiles ("  # what a run says before its first step


def start(data, out, *more):
    """One command for the first time and for each time after, as a queue would give it."""
    arguments = ["fit", "--data", data, "--out", out, *SMALL, "--resume", "auto", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log_of(out).open("w") as file:
        command = [sys.executable, "-m", "s4aug_train", *map(str, arguments)]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def log_of(out):
    return out.with_suffix(".log")


def wait_until(condition, process):
    """Poll often, for what is waited for may be there for a moment only; False if the process ended before."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the run did not get so far"
        time.sleep(0.001)
    return True


def begun(out, process):
    return wait_until(lambda: BEGUN in log_of(out).read_text(), process)


def halves(out):
    """Checkpoints that are being written, or were when the writer was killed."""
    return list((out / "checkpoints").glob(".*.tmp"))


def finished(data, out, *more):
    """Run to the end; returns all that the last checkpoint holds."""
    with start(data, out, *more) as process:
        assert process.wait(PATIENCE_S) == 0, log_of(out).read_text()
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)


def difference(expected, found, where=""):
    """Where two contents differ first, to the bit; None if nowhere."""
    if isinstance(expected, torch.Tensor):
        return None if expected.dtype == found.dtype and torch.equal(expected, found) else where
    if isinstance(expected, dict | list | tuple):
        if type(expected) is not type(found) or len(expected) != len(found):
            return where
        pairs = expected.items() if isinstance(expected, dict) else enumerate(expected)
        inner = (difference(part, found[key], f"{where}/{key}") for key, part in pairs)
        return next((place for place in inner if place), None)
    return None if expected == found else where


@dataclass
class Counts:
    kills: int = 0
    writing: int = 0  # kills that left a checkpoint half-written
    runs: int = 0


def killed(data, out, method, count, seconds, chance):
    """Kill a run up to so often, at random moments or while a checkpoint is written; it may end before."""
    counts = Counts()
    while counts.kills < count:
        with start(data, out, "--method", method) as process:
            if begun(out, process):
                time.sleep(chance.uniform(0, seconds))
                if chance.random() < 0.5:
                    wait_until(lambda: halves(out), process)
                    time.sleep(chance.uniform(0, 0.05))
            process.kill()
            if process.wait() == 0:
                break
            assert process.returncode == -signal.SIGKILL, log_of(out).read_text()
        counts.kills += 1
        counts.writing += bool(halves(out))
    return counts


def check_killed_runs(data, folder, method, count):
    """Killed so often in all, each run ends with the very content of one that was left alone."""
    whole, chance, total = folder / "whole", random.Random(f"kills of {method}"), Counts()
    expected = finished(data, whole, "--method", method)
    seconds = time.time() - (whole / "env.json").stat().st_mtime
    while total.kills < count:
        out = folder / f"run{total.runs}"
        assert total.runs < 2 * count + 2, "runs end before they can be killed"
        counts = killed(data, out, method, count - total.kills, seconds, chance)
        found = finished(data, out, "--method", method)
        assert difference(expected, found) is None, f"{method}: {difference(expected, found)} after {counts}"
        check_folder(out)
        shutil.rmtree(out)
        total = Counts(total.kills + counts.kills, total.writing + counts.writing, total.runs + 1)
    print(f"{method}: {total.kills} kills, {total.writing} of them while a checkpoint was written, {total.runs} runs")


def check_folder(out):
    """All steps once, and nothing half-written left."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    assert not halves(out)
    assert not list(out.glob(".*.tmp"))


def test_a_killed_run_ends_as_if_nothing_had_happened(demo_folder, tmp_path):
    check_killed_runs(demo_folder, tmp_path, "s4net", 1)


@pytest.mark.slow
@pytest.mark.parametrize("method", CHOICES["method.name"])
def test_runs_killed_many_times_end_as_if_nothing_had_happened(demo_folder, tmp_path, method):
    check_killed_runs(demo_folder, tmp_path, method, 20 if method == "s4net" else 2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the files of another process")
def test_a_full_disk_ends_a_run_in_one_line_and_leaves_its_checkpoints(demo_folder, tmp_path):
    import resource

    out = tmp_path / "run"
    last, previous = (out / "checkpoints" / name for name in ("last.pt", "previous.pt"))
    with start(demo_folder, out, "--method", "supervised") as process:
        assert wait_until(previous.exists, process), log_of(out).read_text()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        assert process.wait(PATIENCE_S) == 1, log_of(out).read_text()
    end = log_of(out).read_text().splitlines()[-1]
    assert end.startswith(f"error: cannot write {last}: File too large; free some space")
    assert "Traceback" not in log_of(out).read_text()
    steps = [torch.load(path, weights_only=True)["step"] for path in (previous, last)]
    assert steps[1] == steps[0] + 1 < STEPS
    assert sorted(path.name for path in last.parent.iterdir()) == ["last.pt", "previous.pt"]


def test_contents_that_differ_anywhere_are_told_apart():
    content = {"a": [torch.zeros(2), 1], "b": {"c": 0.5}}
    assert difference(content, {"a": [torch.zeros(2), 1], "b": {"c": 0.5}}) is None
    assert difference(content, {"a": [torch.tensor([0, 1e-9]), 1], "b": {"c": 0.5}}) == "/a/0"
    assert difference(content, {"a": [torch.zeros(2), 1], "b": {"c": 0.25}}) == "/b/c"
    assert difference(content, {"a": [torch.zeros(2), 1], "b": {}}) == "/b"
