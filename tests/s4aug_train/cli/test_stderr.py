"""Messages that nobody reads, and signals that are not meant."""

import errno
import signal
import subprocess
import sys

import pytest

from s4aug_train.cli.reporter import Reporter
from s4aug_train.cli.signals import noted_signals

WORK = """
import sys
import click
from s4aug_train.cli.reporter import Reporter

sys.stdin.readline()
with Reporter() as reporter:
    reporter.line("a line")
    reporter.progress("work", 1, 2)
click.echo("another line, not by the reporter", err=True)
print("done")
sys.exit(7)
"""


def test_messages_that_nobody_reads_do_not_end_the_work():
    """A pipe whose reader is gone, as in `fit 2>&1 | tee log` after Ctrl-C."""
    command = [sys.executable, "-c", WORK]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "done\n"
        assert process.wait(60) == 7


def test_work_goes_on_without_any_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Reporter() as reporter:
        reporter.line("a line")
        reporter.progress("work", 1, 2)


def test_what_cannot_be_written_now_is_dropped_and_what_comes_later_is_not(monkeypatch, capfd):
    """As where the disk of `2> log` is full for a while."""
    reporter, whole = Reporter(), sys.stderr.write

    def full(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.stderr, "write", full)
    reporter.line("lost")
    monkeypatch.setattr(sys.stderr, "write", whole)
    reporter.line("shown")
    assert capfd.readouterr().err == "shown\n"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_is_noted_unless_it_is_ignored_as_under_nohup(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with noted_signals() as seen:
            signal.raise_signal(signal.SIGHUP)
        assert seen == ([] if ignored else [signal.SIGHUP])
    finally:
        signal.signal(signal.SIGHUP, before)
