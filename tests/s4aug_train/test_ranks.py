"""Several processes: what one would have done, and what becomes of a run whose process is killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from s4aug_train.api import evaluate
from s4aug_train.engine import Checkpoint, choose_device
from s4aug_train.errors import ConfigError
from s4aug_train.launch import ONLY, Rank, here
from s4aug_train.ranks import ALONE, Ranks
from s4aug_train.run import RunFolder, begun_by

SCRIPT = Path(__file__).with_name("two_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def as_process(monkeypatch):
    """A function that makes this the process that torchrun would."""

    def set_to(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return set_to


def test_methods_learn_and_evaluate_on_two_processes_as_in_two_passes(tmp_path):
    path = tmp_path / "found.pt"
    subprocess.run([*TORCHRUN, str(SCRIPT), str(path)], check=True, capture_output=True, timeout=400)
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected, confusion = script.alone()
    assessed = script.assessment(ALONE)
    torch.set_num_threads(threads)
    saved = torch.load(path, weights_only=True)
    found, of_two = saved["found"]
    assert torch.equal(of_two, confusion)
    assert saved["assessed"] == assessed
    assert found.keys() == expected.keys()
    for name, (told, gradients) in expected.items():
        torch.testing.assert_close(found[name][0], told, rtol=1e-5, atol=1e-7, msg=name)
        assert len(gradients) == len(found[name][1]) > 0
        # Halves are added in either case, so nothing is rounded differently.
        assert all(torch.equal(*pair) for pair in zip(gradients, found[name][1], strict=True)), name
    assert saved["told"].startswith("process 0 has seed=0, process 1 1: all need the same command")


def process_of(rank, folder):
    """The process of a rank that works in a folder."""
    for home in Path("/proc").glob("[0-9]*"):
        try:
            said = (home / "environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in said and os.readlink(home / "cwd") == str(folder):
                return int(home.name)
        except OSError:
            continue
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for the process in /proc")
def test_a_run_whose_process_is_killed_goes_on_and_ends_as_if_nothing_had_happened(demo_folder, tmp_path):
    settings = (
        f"--data {demo_folder} --preset quick --weights none --labeled 4 --steps 8 --crop 64 --device cpu "
        f"--set train.log_every=1 --set train.checkpoint_every=1 --set train.window=64 --set train.stride=64"
    ).split()
    fit = ["-m", "s4aug_train", "fit", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, "--max-restarts", "1", *fit, "--out", "two"]
    metrics = tmp_path / "two" / "metrics.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 240
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process_of(1, tmp_path), signal.SIGKILL)
        said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert "8 labelled and 4 unlabelled crops (processes: 2, passes of each: 1)" in said
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))

    # One process in two passes sees the same crops.
    one = [sys.executable, *fit, "--set", "train.accumulate=2", "--out", "one"]
    subprocess.run(one, cwd=tmp_path, env=environment, check=True, capture_output=True)
    first, second = (Checkpoint.read(tmp_path / name / "checkpoints" / "last.pt") for name in ("two", "one"))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learned = [key for key in first.network if not key.endswith(statistics)]
    assert all(torch.equal(first.network[key], second.network[key]) for key in learned)
    # The figure of all processes is that of one, to the last digit.
    again = evaluate(tmp_path / "two", {"train.device": "cpu"})
    assert [line["miou"] for line in lines if "miou" in line][-1] == again.miou


@pytest.mark.slow
def test_processes_share_out_the_tiles_of_two_checkpoints_and_one_of_them_speaks(demo_folder, tmp_path):
    settings = f"--data {demo_folder} --preset quick --weights none --labeled 4 --crop 64 --device cpu".split()
    settings += ["--set", "train.window=64", "--set", "train.stride=64"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for steps in ("1", "2"):
        fit = [sys.executable, "-m", "s4aug_train", "fit", *settings, "--steps", steps, "--out", f"run{steps}"]
        subprocess.run(fit, cwd=tmp_path, env=environment, check=True, capture_output=True)
    command = [*TORCHRUN, "-m", "s4aug_train", "evaluate", "run2", "--against", "run1", "--json"]
    told = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    values, two, one = json.loads(told.stdout), evaluate(tmp_path / "run2"), evaluate(tmp_path / "run1")
    assert values["confusion"] == two.confusion
    assert values["comparison"]["difference"] == two.miou - one.miou


@pytest.mark.slow
def test_processes_share_out_rasters_and_a_failure_of_one_does_not_end_the_others(demo_folder, tmp_path):
    settings = f"--data {demo_folder} --preset quick --weights none --labeled 4 --steps 1 --crop 64".split()
    fit = [sys.executable, "-m", "s4aug_train", "fit", *settings, "--device", "cpu", "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*fit, "--set", "train.window=64", "--set", "train.stride=64"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    (tmp_path / "bad.png").write_text("no raster")
    images = sorted(demo_folder.rglob("*_sat.jpg"))[:5]
    command = [*TORCHRUN, "-m", "s4aug_train", "predict", "run", "bad.png", *map(str, images), "--out", "maps"]
    found = subprocess.run([*command, "--device", "cpu"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode != 0
    assert found.stderr.count("failed: bad.png cannot be read") == 1
    maps = sorted((tmp_path / "maps").iterdir())
    assert [path.stem for path in maps] == sorted(image.stem for image in images)
    assert sorted(found.stdout.split()) == sorted(str(path.relative_to(tmp_path)) for path in maps)


@pytest.mark.slow
def test_a_launch_that_is_told_to_end_finishes_its_step_and_saves(demo_folder, tmp_path):
    settings = (
        f"--data {demo_folder} --preset quick --weights none --labeled 4 --steps 500 --crop 64 --device cpu "
        f"--set train.log_every=1 --set train.window=64 --set train.stride=64"
    ).split()
    command = [*TORCHRUN, "-m", "s4aug_train", "fit", *settings, "--out", "two"]
    metrics, environment = tmp_path / "two" / "metrics.jsonl", {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 240
        while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        said = process.communicate(timeout=240)[1]
    assert process.returncode != 0
    assert said.count("stopped; go on with: s4aug-train fit --out two --resume") == 1
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert Checkpoint.read(tmp_path / "two" / "checkpoints" / "last.pt").step == steps[-1] < 500


def test_one_process_does_nothing_together():
    assert here() == ONLY
    value = torch.tensor([1.5])
    assert torch.equal(ALONE.mean(value), value)
    assert ALONE.total(value) is value
    assert ALONE.any(True)
    ALONE.check_same({"anything": 1})
    ALONE.wait()
    with ALONE.in_turn():
        pass


def test_torchrun_says_which_process_this_is(as_process):
    as_process(RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, LOCAL_WORLD_SIZE=4)
    as_process(TORCHELASTIC_ERROR_FILE="/tmp/elastic/none_ab/attempt_2/1/error.json")
    assert here() == Rank(5, 8, 1, 4, launch="/tmp/elastic/none_ab")
    assert not here().first
    as_process(RANK="first")
    with pytest.raises(ConfigError, match="RANK, WORLD_SIZE, .* must be numbers, got .*'first'"):
        here()


def test_what_a_launch_began_its_later_attempts_go_on_with_and_no_other_does(tmp_path):
    run, ranks = RunFolder(tmp_path), Ranks(launch="/tmp/elastic/none_ab")
    assert not begun_by(run, ranks)
    for written in ("", "[]", '{"launches": ["/tmp/elastic/none_cd"]}'):
        run.environment.write_text(written)
        assert not begun_by(run, ranks)
    run.environment.write_text('{"launches": ["", "/tmp/elastic/none_ab"]}')
    assert begun_by(run, ranks)
    # Without torchrun there are no attempts.
    assert not begun_by(run, ALONE)


def test_each_process_takes_its_own_gpu_or_is_told(monkeypatch):
    ranks = Ranks(1, 2, 1, 2)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert choose_device("cuda", ranks) == torch.device("cuda:1")
    assert choose_device("cpu", ranks) == torch.device("cpu")
    with pytest.raises(ConfigError, match="2 processes on this machine need as many GPUs"):
        choose_device("cuda:1", ranks)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="got 1 GPUs and cuda; start fewer processes"):
        choose_device("cuda", ranks)
