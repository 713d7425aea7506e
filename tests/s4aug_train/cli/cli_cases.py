"""Arguments of small runs, and runs as processes of their own."""

import os
import subprocess
import sys
import time

QUICK = ["--preset", "quick", "--weights", "none", "--crop", "64", "--labeled", "4", "--val", "2"]
TINY = [*QUICK, "--set", "train.window=64", "--set", "train.stride=64", "--set", "train.log_every=1"]


def fit_arguments(data, out, *more):
    return ["fit", "--data", data, "--out", out, *TINY, *more]


def start(arguments, log):
    """A process of the command, which prints to a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "s4aug_train", *map(str, arguments)]
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def wait_for_steps(out, steps, process):
    """Until metrics.jsonl holds so many steps."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be stopped"
        metrics = out / "metrics.jsonl"
        if metrics.exists() and metrics.read_text().count('"loss"') >= steps:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get so far")
