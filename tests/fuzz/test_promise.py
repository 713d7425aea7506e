"""What holds calls to the promise finds each way in which it can be broken."""

import logging
import os
import time
import warnings

import click
import numpy as np
import pytest

from s4aug_train.cli import main
from s4aug_train.errors import ConfigError
from tests.fuzz import promise
from tests.fuzz.promise import Ending, World, told


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A world whose only command is what a test says."""
    made = World(tmp_path)
    (tmp_path / "input").write_text("mine")

    def call(body):
        monkeypatch.setattr(type(main), "get_command", lambda *_: click.command()(body))
        with made.fresh():
            return made.ending("x")

    return call


def failing():
    raise ConfigError("wrong; mend it")


def writing_and_failing():
    with open("left", "w"):
        failing()


def spoiling():
    with open("../input", "w"):
        pass


def printing_and_failing():
    click.echo("a note", err=True)
    failing()


def taking():
    np.ones(300 << 17)  # MiB


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (lambda: None, ""),
        (failing, ""),
        (lambda: 1 / 0, "a traceback"),
        (lambda: os.write(2, b"of C"), "noise of C: ['of C']"),
        (writing_and_failing, "written: ['case/left']"),
        (lambda: open("left", "w").close(), ""),
        (spoiling, "written: ['input']"),
        (printing_and_failing, "not one line"),
        (lambda: click.echo("\x1b[31m"), "control characters"),
        (lambda: click.echo("x" * 5000, err=True), "too long"),
        (lambda: click.get_current_context().exit(3), "exit 3"),
        (lambda: click.get_current_context().exit(1), "not one line"),
        (lambda: click.get_current_context().exit(2), ""),
        (lambda: warnings.warn("beware", UserWarning, stacklevel=1), "a traceback"),
        (lambda: click.echo("UserWarning: beware", err=True), "a warning"),
        (lambda: logging.getLogger("x").warning("UserWarning"), "a warning"),
        pytest.param(taking, "MiB", marks=pytest.mark.skipif(not promise.STATUS.exists(), reason="nobody tells")),
    ],
)
def test_a_broken_promise_is_found(world, monkeypatch, body, fault):
    monkeypatch.setattr(promise, "LIMIT_MIB", 200)
    faults = list(world(lambda: body() and None).faults())
    assert (len(faults) > 0) == bool(fault)
    assert fault in " ".join(faults)


def test_wrong_usage_must_be_told_as_such():
    assert not list(Ending(2, stderr="Usage: x\n\nError: no such option\n").faults())
    assert list(Ending(2, stderr="Usage: x\n\nError: no such\noption\n").faults())


def test_what_hangs_is_ended(world, monkeypatch):
    monkeypatch.setattr(promise, "LIMIT_S", 0.2)
    assert any("it hung" in fault for fault in world(lambda: time.sleep(30)).faults())


def test_what_a_function_raises_must_be_what_is_told():
    assert told(lambda: 5) == 5
    assert told(failing) is None
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        told(lambda: 1 / 0)
