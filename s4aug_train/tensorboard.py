"""What TensorBoard shows of a run: its records, and a picture of views and predictions after each evaluation."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .data.palette import ClassTable
from .engine import Loader, TrainingState
from .errors import ConfigError, S4AugTrainError
from .panels import ROWS, draw_panel
from .records import EvaluationRecord, Note, Record, Stopped, read_metrics
from .run import RunFolder


class Writing(NamedTuple):
    """What writing event files takes of other packages."""

    board: Any  # torch.utils.tensorboard
    events: Any  # the messages of an event file
    summaries: Any


def check_tensorboard() -> Writing:
    """Hold a run to having the package.

    Raises:
        ConfigError: It cannot be imported.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from torch.utils import tensorboard
        from torch.utils.tensorboard import summary  # noqa: F401  # an attribute of `tensorboard` from here on
    except ImportError as error:
        raise ConfigError(
            f"train.tensorboard needs the package tensorboard: pip install 's4aug[tensorboard]' ({error})"
        ) from error
    return Writing(tensorboard, event_pb2, summary_pb2)


class Board:
    """An event file of a run that begins or goes on.

    It is open only while a record is written, in the calling thread, so there is nothing to close whatever ends the
    run. (torch's SummaryWriter writes in a thread, which on a full disk dies with a traceback of its own.)

    Args:
        run: Its metrics.jsonl holds the records until here and no others.
        step: Steps done.
        evaluated: The step of the last evaluation. What earlier files hold beyond it, from a run that was killed or
            stopped, is hidden, and the records since are written again.
        panel: Called after each evaluation for its picture, [H, W, 3] uint8, or None.

    Raises:
        ConfigError: The package tensorboard is not there.
        S4AugTrainError: The file cannot be written.
    """

    def __init__(
        self,
        run: RunFolder,
        step: int = 0,
        evaluated: int = 0,
        *,
        panel: Callable[[], np.ndarray | None] = lambda: None,
    ) -> None:
        self.writing = check_tensorboard()
        self.step = step
        self.panel = panel
        self.path = run.tensorboard / event_file_name()
        goes_on = bool(run.events())
        self._write(file_version="brain.Event:2")
        if goes_on:
            start = self.writing.events.SessionLog.START
            self._write(step=evaluated + 1, session_log=self.writing.events.SessionLog(status=start))
        for line in read_metrics(run.metrics):
            if line["step"] > evaluated or not goes_on:
                self._write_scalars(line)

    def append(self, record: Record) -> None:
        """Write a record: numbers as scalars, a note as text; after an evaluation the picture too."""
        if isinstance(record, Note):
            self._write(step=self.step, summary=self.writing.board.summary.text("notes", record.text))
            return
        if isinstance(record, Stopped):
            return
        self.step = record.step
        self._write_scalars(record.to_dict())
        picture = self.panel() if isinstance(record, EvaluationRecord) else None
        if picture is not None:
            image = self.writing.board.summary.image("views", picture, dataformats="HWC")
            self._write(step=self.step, summary=image)

    def _write_scalars(self, line: Mapping[str, Any]) -> None:
        summary = self.writing.summaries.Summary
        values = [summary.Value(tag=tag, simple_value=value) for tag, value in scalars(line).items()]
        self._write(step=line["step"], summary=summary(value=values))

    def _write(self, **content: Any) -> None:
        event = self.writing.events.Event(wall_time=time.time(), **content)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                self.writing.board.RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            raise S4AugTrainError(
                f"cannot write {self.path}: {error.strerror or error}; free some space, or go on without: --resume "
                f"--no-tensorboard"
            ) from error


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl, by their names in TensorBoard."""
    if "miou" in line:
        named = {"val/miou": line["miou"], **{f"val/iou/{name}": value for name, value in line["iou"].items()}}
    else:
        named = {f"train/{name}": value for name, value in line.items() if name != "step"}
    return {tag: value for tag, value in named.items() if value is not None}


def event_file_name() -> str:
    """Read by TensorBoard in the order of names, so by time first; no other process takes it."""
    return f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"


def state_panel(state: TrainingState, loader: Loader, classes: ClassTable) -> np.ndarray | None:  # [H, W, 3]
    """The same crops and views whenever it is asked for, with what the network predicts by now.

    Nothing of the run changes: no weights, statistics or modes, and nothing that is drawn later.

    Returns:
        None where the method compares no two views of unlabelled crops.
    """
    if loader.unlabeled is None:
        return None
    first = replace(loader, batch_labeled=1, batch_unlabeled=ROWS, first_part=0, own_parts=1, parts=1)
    device, network = state.device, state.evaluated_network()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad(), judging(network):
        batch = first.batch(0)[0].to(device)
        views = state.method.views(batch)
        if views is None or batch.unlabeled is None:
            return None
        with torch.autocast(device.type, state.autocast, enabled=state.autocast is not None):
            predictions = (network(views[0].image), network(views[1].image))
        setup = state.method.setup
        return draw_panel(batch.unlabeled, views, setup.normalization, classes=classes, predictions=predictions)


@contextmanager
def judging(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and then each module's own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
