"""The processes of runs: GPUs and cores shared out, runs of earlier calls waited for, and why one ended."""

import signal
import subprocess
import sys

import pytest
import torch

from s4aug_train.config import Config
from s4aug_train.errors import ConfigError
from s4aug_train.reproduce.fits import Awaited, Fits, check_alone, is_held, reason, visible_gpus
from s4aug_train.reproduce.folder import GridFolder
from s4aug_train.reproduce.grid import Cell
from s4aug_train.run import RunFolder, held

CELL = Cell("s4net", 20, 0)


@pytest.fixture
def fits(tmp_path, monkeypatch):
    """Fits whose processes print a line and end with 3."""
    monkeypatch.setattr(Fits, "command", lambda self, cell: [sys.executable, "-c", "print('hello'); exit(3)"])
    return Fits(GridFolder(tmp_path), 1)


def test_what_a_process_prints_is_in_its_log(fits):
    assert fits.start(CELL, 0).wait(60) == 3
    assert fits.folder.log(CELL).read_text() == "hello\n"


def test_a_run_of_an_earlier_call_is_waited_for(fits):
    run = fits.folder.run(CELL)
    with held(run):
        assert is_held(run)
        process = fits.start(CELL, 0)
        assert isinstance(process, Awaited)
        assert [process.poll(), process.poll()] == [None, None]
        assert not fits.folder.log(CELL).exists()
    assert process.poll() in (None, 3)
    assert process.own.wait(60) == 3
    assert process.poll() == 3


def test_waiting_for_a_run_of_an_earlier_call_can_be_given_up(fits):
    with held(fits.folder.run(CELL)):
        process = fits.start(CELL, 0)
        process.send_signal(signal.SIGINT)
        assert process.poll() == 130


def test_the_lock_that_a_killed_process_left_holds_nobody(fits):
    run = fits.folder.run(CELL)
    run.path.mkdir(parents=True)
    run.lock.touch()
    assert not is_held(run)


def test_the_command_is_one_that_a_user_can_call(tmp_path):
    command = Fits(GridFolder(tmp_path), 1).command(CELL)
    assert command[:4] == [sys.executable, "-m", "s4aug_train", "fit"]
    assert subprocess.list2cmdline(command[4:]).endswith(f"--out {tmp_path / 'runs' / CELL.name} --resume")


def test_gpus_and_cores_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    folder = GridFolder(tmp_path)
    given = [Fits(folder, 3, ("4", "7")).environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert given == ["4", "7", "4"]
    assert Fits(folder, 1).environment(0) == {}
    assert int(Fits(folder, 1000).environment(0)["OMP_NUM_THREADS"]) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert Fits(folder, 2).environment(0) == {}


def test_gpus_are_those_that_this_process_may_see(monkeypatch):
    settings = lambda device: Config().updated({"train.device": device})  # noqa: E731
    assert visible_gpus(settings("cpu")) == ()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(settings("auto")) == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa,GPU-bb")
    assert visible_gpus(settings("cuda")) == ("GPU-aa", "GPU-bb")
    assert visible_gpus(settings("cuda:1")) == ()


def test_torchrun_is_refused(monkeypatch):
    check_alone()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without torchrun, with --jobs N"):
        check_alone()


@pytest.mark.parametrize(
    ("printed", "code", "told"),
    [
        ("step 1\nerror: cannot write x: full\n", 1, "cannot write x: full"),
        ("step 1\nTraceback\nValueError: odd\n", 1, "ValueError: odd"),
        ("Usage: x\n\nError: no such option\n", 2, "Error: no such option"),
        ("step 7\n", -9, "killed by SIGKILL (is the memory full?); the last line: step 7"),
        ("", -15, "killed by SIGTERM; the last line: it printed nothing"),
        (None, 1, "it printed nothing"),
    ],
)
def test_the_reason_is_the_error_or_what_was_printed_last(tmp_path, printed, code, told):
    log = tmp_path / "log.txt"
    if printed is not None:
        log.write_text(printed)
    assert reason(log, code) == told


def test_a_log_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "logs").write_text("")
    with pytest.raises(Exception, match="cannot begin s4net-labeled20-seed0"):
        Fits(GridFolder(tmp_path), 1).start(CELL, 0)


def test_without_locks_nothing_is_held(monkeypatch, tmp_path):
    run = RunFolder(tmp_path)
    with held(run):
        assert is_held(run)
        monkeypatch.setattr("s4aug_train.run.fcntl", None)
        assert not is_held(run)
