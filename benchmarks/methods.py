"""What a training step of each method costs beside a supervised one: the table of docs/choose-a-method.md.

    python -m benchmarks.methods

Times are CPU seconds on one thread, so that what else runs on the machine matters little. All methods take turns, and a
ratio is taken within a round. Memory is what a process grows by at most: network, optimizer and whatever a method holds
besides, and a step.
"""

import gc
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import torch

from s4aug_train.limits import CHOICES
from s4aug_train.methods import Method, make_method
from s4aug_train.presets import METHODS

from .cases import FULL, Case, base_case
from .contest import WrongResult
from .machine import describe_machine
from .memory import map_each_array, resident_growth
from .stepping import make_batch, step_of
from .table import mebibytes
from .timing import Budget, ratios, spread, time_in_turns
from .training import make_network, make_setup

NAMES = CHOICES["method.name"]
BASE = "supervised"
BUDGET = Budget(600.0, 7, 15)


def method_of(name: str, case: Case) -> Method:
    """With what it sets by default."""
    setup = make_setup(case)
    return make_method(replace(setup, config=setup.config.updated({**METHODS.get(name, {}), "method.name": name})))


class Steps:
    """Steps of one method, one at each call.

    Args:
        name: Of the method.
        case: Sizes.
    """

    def __init__(self, name: str, case: Case) -> None:
        method = method_of(name, case)
        self.name = name
        self.step = step_of(method, make_network(case), make_batch(case, method))

    def __call__(self) -> None:
        loss = self.step()["loss"]
        if not loss.isfinite():
            raise WrongResult(f"{self.name}: the loss is {float(loss)}")


def step_seconds(case: Case, budget: Budget = BUDGET) -> dict[str, list[float]]:
    """CPU seconds of one step, for each method and round."""
    return time_in_turns({name: Steps(name, case) for name in NAMES}, budget, clock=time.process_time)


def step_bytes(case: Case) -> dict[str, int]:
    """Growth of a process by method, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=map_each_array) as process:
        return process.submit(_growths, case).result()


def _growths(case: Case) -> dict[str, int]:
    torch.set_num_threads(1)
    Steps(BASE, case)()  # what is loaded at the first step counts nowhere
    found = {}
    for name in NAMES:
        gc.collect()
        found[name] = resident_growth(lambda name=name: _twice(Steps(name, case)))
    return found


def _twice(step: Steps) -> None:
    step()
    step()


def table(seconds: dict[str, list[float]], sizes: dict[str, int]) -> list[str]:
    """Lines of Markdown, the cheapest first."""
    times = {name: ratios(taken, seconds[BASE]) for name, taken in seconds.items()}
    lines = ["| method | time of a step | memory, MiB |", "| --- | ---: | ---: |"]
    for name in sorted(times, key=lambda name: times[name].median):
        low, median, high = times[name]
        lines.append(f"| `{name}` | {median:.2f} ({low:.2f} to {high:.2f}) | {mebibytes(sizes.get(name))} |")
    return lines


if __name__ == "__main__":
    torch.set_num_threads(1)
    case = base_case("step", FULL, "cpu")
    taken = step_seconds(case)
    print("\n".join(table(taken, step_bytes(case))))
    print(f"{case.name}, {len(taken[BASE])} rounds, {BASE}: {spread(taken[BASE]).median:.2f} CPU s a step")
    print(", ".join(f"{name} {value}" for name, value in describe_machine("cpu").items()))
