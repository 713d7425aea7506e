"""The training loop: batches in, records out; it prints nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import fields

import torch
from torch import Tensor

from ..errors import TrainingError
from ..methods import Losses
from ..records import EvaluationRecord, LeftOut, Record, StepRecord
from .device import peak_memory_mib
from .graph import GraphedSteps
from .prefetch import Loader
from .state import TrainingState

# The means that every method has; others are logged by name beside them.
MEANS = ("loss", "loss_supervised", "loss_consistency", "valid_fraction")

Evaluate = Callable[[int], EvaluationRecord | None]  # None: given up
Save = Callable[[bool], None]  # with: whether this is the best so far


def train(
    state: TrainingState,
    loader: Loader,
    *,
    evaluate: Evaluate,
    save: Save,
    left_out: LeftOut | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[int], None] = lambda step: None,
) -> Iterator[Record]:
    """Train from the state's step to the end, or until `should_stop`.

    Args:
        state: Changed as training goes on.
        loader: Gives the batches.
        evaluate: Called every `evaluate_every` steps and after the last, with the step.
        save: Called every `checkpoint_every` steps, and before and after each evaluation.
        left_out: What is told already of tiles that cannot be read.
        should_stop: Asked after each step; when true the state is saved and the loop ends.
        on_step: Told the steps done.

    Yields:
        A step record every `log_every` steps (means over them), and every evaluation's record; a note where a tile
        that cannot be read was left out for the first time.

    Raises:
        TrainingError: The loss is not finite.
    """
    config = state.config
    left_out = left_out or LeftOut({})
    state.network.train()
    if _evaluation_due(state):
        # The run was stopped in the middle of an evaluation.
        yield from _evaluated(state, evaluate, save)
        if should_stop():
            return
    train_on = GraphedSteps(state).train_on if config.graph else state.train_on
    interval = Interval(config.batch_labeled + (config.batch_unlabeled if loader.unlabeled else 0), state.device)
    for batch, waited in loader.batches(state.step, config.steps):
        for name, why in batch.unread.items():
            left_out.add(name, why)
        yield from left_out.notes()
        rate, weight = state.learning_rate(), state.method.weight(state.step)
        interval.add(train_on(batch), waited)
        step, last = state.step, state.step == config.steps
        on_step(step)
        if step % config.log_every == 0 or last:
            yield interval.record(step, rate, weight)
            interval.begin()  # what the consumer did meanwhile is not training
        due, stopping = _evaluation_due(state), should_stop()
        if due or stopping or step % config.checkpoint_every == 0:
            check_finite(state, interval)
            save(False)
        if stopping:
            return
        if due:
            began = time.perf_counter()
            yield from _evaluated(state, evaluate, save)
            interval.leave_out(time.perf_counter() - began)
            if should_stop():
                return


def _evaluation_due(state: TrainingState) -> bool:
    config = state.config
    every = config.evaluate_every or max(1, config.steps // 5)
    due = state.step > 0 and (state.step % every == 0 or state.step == config.steps)
    return due and state.evaluated != state.step


def _evaluated(state: TrainingState, evaluate: Evaluate, save: Save) -> Iterator[Record]:
    """Evaluate, and save what came of it; an evaluation that is given up is due again when the run goes on."""
    record = evaluate(state.step)
    if record is None:
        return
    improved = record.miou is not None and (state.best is None or record.miou > state.best)
    state.best = record.miou if improved else state.best
    state.evaluated = state.step
    yield record
    save(improved)


def check_finite(state: TrainingState, interval: "Interval") -> None:
    """Hold losses and weights to being finite, so that no checkpoint is spoiled.

    Raises:
        TrainingError: They are not.
    """
    interval.check(state.step)
    if not torch.stack([parameter.detach().isfinite().all() for parameter in state.network.parameters()]).all():
        raise _not_finite("network", state.step)


def _not_finite(what: str, step: int) -> TrainingError:
    return TrainingError(
        f"the {what} is not finite at step {step}: begin a new run with a lower train.lr (or with --precision fp32); "
        f"no checkpoint was written since"
    )


class Interval:
    """Means over the steps since the last record; values stay on the device until then.

    Args:
        images: Per step.
        device: Of the network; its peak of memory is told.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self.images = images
        self.device = device
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.steps = 0
        self.waited_s = 0.0
        self.began = time.perf_counter()

    def add(self, losses: Losses, waited_s: float) -> None:
        """Count one step."""
        named = {
            "loss": losses.total,
            "loss_supervised": losses.supervised,
            "loss_consistency": losses.unsupervised,
            "valid_fraction": losses.valid_fraction,
            **losses.extra,
        }
        taken = {field.name for field in fields(StepRecord)} & losses.extra.keys()
        assert not taken, f"a method's extra must not be called {', '.join(taken)}"
        values = torch.stack([value.detach().float() for value in named.values()])
        self.names = list(named)
        self.sums = values if self.sums is None else self.sums + values
        self.steps += 1
        self.waited_s += waited_s

    def check(self, step: int) -> None:
        """Hold the losses since the last record to being finite; reads them back from the device."""
        if self.sums is not None and not self.sums.isfinite().all():
            raise _not_finite("loss", step)

    def record(self, step: int, lr: float, weight: float) -> StepRecord:
        """The record of these steps."""
        assert self.sums is not None
        self.check(step)
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        standard = {name: means.pop(name) for name in MEANS}
        return StepRecord(
            step=step,
            **standard,
            weight=weight,
            lr=lr,
            images_per_s=self.images * self.steps / elapsed,
            data_wait=min(self.waited_s / elapsed, 1.0),
            memory_mib=peak_memory_mib(self.device),
            extra=means,
        )

    def leave_out(self, seconds: float) -> None:
        """Do not count time that was not spent on training."""
        self.began += seconds

    def begin(self) -> None:
        """Nothing counted yet."""
        self.sums = None
        self.steps = 0
        self.waited_s = 0.0
        self.began = time.perf_counter()
