"""`s4aug-train reproduce`: real grids that are stopped or killed go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from s4aug_train.reproduce import timing
from s4aug_train.reproduce.folder import GridFolder
from s4aug_train.reproduce.grid import TABLES, Cell
from s4aug_train.run import RunFolder
from tests.s4aug_train.cli.reproduce_cases import SMALL, call, lines_of

PATIENCE_S = 900  # for machines that others share


def steps_of(run):
    lines = run.metrics.read_text().splitlines() if run.metrics.exists() else []
    return [json.loads(line)["step"] for line in lines if '"loss"' in line and line.endswith("}")]


def last_checkpoints(out):
    return {path: path.read_bytes() for path in out.glob("runs/*/checkpoints/last.pt")}


def stop_when(condition):
    """SIGTERM for this process once it is so; joined by the test."""

    def watch():
        deadline = time.monotonic() + PATIENCE_S
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        if condition():
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_real_grid_is_stopped_and_goes_on_without_doing_anything_twice(demo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "step_seconds", lambda config, bands, classes: 0.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out, stopped = tmp_path / "E", GridFolder(tmp_path / "E").run(Cell("s4net", 4, 0))
    batches = [f"--set=train.{each}" for each in ("batch_labeled=2", "batch_unlabeled=1", "checkpoint_every=50")]
    small = ["--labels", 4, "--seeds", 0, "--budget", 12, *SMALL, *batches]
    thread = stop_when(lambda: len(steps_of(stopped)) >= 2)
    result = call("table4", "--data", demo_folder, "--out", out, *small, code=143)
    thread.join()
    assert "stopped; go on with: s4aug-train" in result.stderr
    before, begun = last_checkpoints(out), max(steps_of(stopped))
    again = call("table4", "--data", demo_folder, "--out", out, *small)
    assert "2 runs, 1 finished, 1 at once" in again.stderr
    finished = out / "runs" / "supervised-labeled4-seed0" / "checkpoints" / "last.pt"
    assert last_checkpoints(out)[finished] == before[finished]
    assert f"step {begun}/12" not in stopped.log.read_text().split("stopped; go on")[-1]
    for line, run in zip(lines_of(out, "table4"), (RunFolder(finished.parents[1]), stopped), strict=True):
        assert steps_of(run) == list(range(1, 13))
        assert float(line["ours_mean"]) == 100 * json.loads(run.metrics.read_text().splitlines()[-1])["miou"]
    assert (finished.parents[1] / "splits.json").read_text() == stopped.split.read_text()


def start(arguments, log):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        called = [sys.executable, "-m", "s4aug_train", "reproduce", *map(str, arguments)]
        return subprocess.Popen(called, stdout=file, stderr=subprocess.STDOUT, env=environment)


def wait_until(condition, process, log):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("table", TABLES)
def test_each_table_runs_on_the_demo_stopped_once(tmp_path, table):
    out, log, began = tmp_path / "E", tmp_path / "log.txt", time.monotonic()
    arguments = [table, "--data", "demo", "--out", out, "--seeds", "0", "--budget", "6", "--set", "train.log_every=1"]
    stopped = {"table4": Cell("s4net", 50, 0), "fig5": Cell("s4net", 20, 0)}.get(table, Cell("full", 20, 0))
    run = GridFolder(out).run(stopped)
    with start(arguments, log) as process:
        wait_until(lambda: len(steps_of(run)) >= 2, process, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130, log.read_text()
    assert f"stopped; go on with: s4aug-train reproduce {table} --data demo" in log.read_text()
    before = {path: content for path, content in last_checkpoints(out).items() if run.path not in path.parents}
    with start(arguments, log) as process:
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert {path: last_checkpoints(out)[path] for path in before} == before
    print(f"{table}: {time.monotonic() - began:.0f} s")
    assert "160 made-up tiles of 256 x 256 px instead of DeepGlobe's 803" in log.read_text().replace("\n", " ")
    lines = lines_of(out, table)
    assert all(line["n"] == "1" and line["papers_setting"] == "no" for line in lines)
    assert {line["paper_mean"] for line in lines} & {"65.2", "57.97", "66.42"}


@pytest.mark.slow
def test_a_grid_that_is_killed_leaves_a_run_that_the_next_call_waits_for(demo_folder, tmp_path):
    out, log = tmp_path / "E", tmp_path / "log.txt"
    arguments = ["fig5", "--data", demo_folder, "--out", out, "--labels", 4, "--seeds", 0, "--budget", 30, *SMALL]
    run = GridFolder(out).run(Cell("s4net", 4, 0, 0.2))
    with start(arguments, log) as process:
        wait_until(lambda: len(steps_of(run)) >= 2, process, log)
        process.kill()
    with start(arguments, log) as process:
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert "s4net-labeled4-lambda0.2-seed0: still going on from an earlier call, waited for" in log.read_text()
    for weight in (None, 0.2, 10.0, 20.0, 100.0):
        assert steps_of(GridFolder(out).run(Cell("s4net", 4, 0, weight))) == list(range(1, 31))
