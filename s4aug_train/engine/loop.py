"""The training loop: batches in, records out; it prints nothing."""

import time
from collections.abc import Callable, Iterator

import torch

from ..errors import TrainingError
from ..ranks import ALONE, Ranks
from ..records import EvaluationRecord, LeftOut, Record, Stopped
from .graph import GraphedSteps
from .interval import Interval
from .prefetch import Loader
from .state import TrainingState

Evaluate = Callable[[int], EvaluationRecord | None]  # None: given up
Save = Callable[[bool], None]  # with: whether this is the best so far
IN_A_RUN = 5  # evaluations, where `evaluate_every` is 0


def train(
    state: TrainingState,
    loader: Loader,
    *,
    evaluate: Evaluate,
    save: Save,
    left_out: LeftOut | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[int], None] = lambda step: None,
    ranks: Ranks = ALONE,
) -> Iterator[Record]:
    """Train from the state's step to the end, or until `should_stop`.

    Args:
        state: Changed as training goes on.
        loader: Gives the batches.
        evaluate: Called every `evaluate_every` steps (0: five times in a run) and after the last, with the step.
        save: Called every `checkpoint_every` steps, and before and after each evaluation.
        left_out: What is told already of tiles that cannot be read.
        should_stop: Asked after each step, in all processes alike; when true the state is saved and the loop ends.
        on_step: Told the steps done.
        ranks: The processes that train together.

    Yields:
        A step record every `log_every` steps (means over them), every evaluation's record, notes of what is odd and of
        tiles that cannot be read and are left out.

    Raises:
        TrainingError: Weights are not finite, or too many steps in a row had to be skipped.
    """
    config = state.config
    left_out = left_out or LeftOut({})
    state.network.train()
    if _evaluation_due(state):
        # The run was stopped in the middle of an evaluation.
        yield from _evaluated(state, evaluate, save)
        if should_stop():
            yield Stopped(state.step)
            return
    train_on = GraphedSteps(state).train_on if config.graph else state.train_on
    crops = config.batch_labeled + (config.batch_unlabeled if loader.unlabeled else 0)
    interval = Interval(
        crops * state.parts, state.device, ranks, limit=config.skip_limit, scaled=state.scaler.is_enabled()
    )
    for parts, waited in loader.batches(state.step, config.steps):
        for part in parts:
            for name, why in part.unread.items():
                left_out.add(name, why)
        if ranks.count == 1:
            yield from left_out.notes()
        rate, weight = state.learning_rate(), state.method.weight(state.step)
        tiles = tuple(tile for part in parts for tile in part.tiles)
        interval.add(train_on(parts), tiles, waited)
        step, last = state.step, state.step == config.steps
        on_step(step)
        if step % config.log_every == 0 or last:
            for found in ranks.gathered(dict(left_out.untold)):
                for name, why in found.items():
                    left_out.add(name, why)
            yield from left_out.notes()
            yield from interval.records(step, rate, weight)
            interval.begin()  # what the consumer did meanwhile is not training
        due, stopping = _evaluation_due(state), should_stop()
        if due or stopping or step % config.checkpoint_every == 0:
            check_finite(state, interval)
            save(False)
        if stopping:
            yield Stopped(step)
            return
        if due:
            began = time.perf_counter()
            yield from _evaluated(state, evaluate, save)
            interval.leave_out(time.perf_counter() - began)
            if should_stop():
                yield Stopped(step)
                return


def _evaluation_due(state: TrainingState) -> bool:
    step, steps, every = state.step, state.config.steps, state.config.evaluate_every
    due = step % every == 0 if every else IN_A_RUN * step // steps > IN_A_RUN * (step - 1) // steps
    return step > 0 and (due or step == steps) and state.evaluated != step


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
    """Hold steps and weights to being finite, so that no checkpoint is spoiled.

    Raises:
        TrainingError: They are not.
    """
    interval.check(state.step)
    if not torch.stack([parameter.detach().isfinite().all() for parameter in state.network.parameters()]).all():
        raise TrainingError(
            f"the network is not finite at step {state.step}: begin a new run with a lower train.lr (or with "
            f"--precision fp32); no checkpoint was written since"
        )
