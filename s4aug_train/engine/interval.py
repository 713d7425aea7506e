"""What is told of the steps between two lines of the log."""

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import ConfigError, TrainingError
from ..ranks import Ranks
from ..records import Note, Record, StepRecord
from .device import peak_memory_mib
from .state import Outcome

# The means that every method has; others are logged by name beside them.
MEANS = ("loss", "loss_supervised", "loss_consistency", "valid_fraction")
TOLD = 5  # tiles that are named


class Interval:
    """Means over the steps since the last record; values stay on the device until then.

    Args:
        images: Per step, of all processes.
        device: Of the network; its peak of memory is told.
        ranks: Means go over all processes.
        limit: Steps in a row that may be skipped.
        scaled: The loss is scaled for fp16, and too large a scale is found out by skipped steps.
    """

    def __init__(self, images: int, device: torch.device, ranks: Ranks, *, limit: int, scaled: bool = False) -> None:
        self.images = images
        self.device = device
        self.ranks = ranks
        self.limit = limit
        self.scaled = scaled
        self.row = 0  # steps skipped in a row, up to the last one that was looked at
        self.begin()

    def begin(self) -> None:
        """Nothing counted yet."""
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.skipped: list[Tensor] = []  # by step, scalar bools on the device
        self.tiles: list[tuple[str, ...]] = []  # by step
        self.looked = 0  # steps whose `skipped` has been read
        self.waited_s = 0.0
        self.began = time.perf_counter()

    def add(self, outcome: Outcome, tiles: tuple[str, ...], waited_s: float) -> None:
        """Count one step, of crops from these tiles."""
        self.names = self.names or list(outcome.told)
        if differ := {*self.names} ^ outcome.told.keys():
            raise ConfigError(
                f"the method's Losses.extra holds {', '.join(sorted(differ))} in some steps alone; give all in each"
            )
        values = torch.stack([outcome.told[name] for name in self.names])
        # A skipped step's are no numbers. Copied: the next step of a CUDA graph writes over them.
        values = torch.where(outcome.skipped, 0.0, values)
        self.sums = values if self.sums is None else self.sums + values
        self.skipped.append(outcome.skipped.clone())
        self.tiles.append(tiles)
        self.waited_s += waited_s

    def check(self, step: int) -> list[int]:
        """Which of the steps since the last record were skipped; reads them back from the device.

        Args:
            step: Steps done.

        Raises:
            TrainingError: Too many in a row.
        """
        flags = torch.stack(self.skipped).tolist() if self.skipped else []
        for number, flag in enumerate(flags[self.looked :], self.looked):
            self.row = self.row + 1 if flag else 0
            if self.row >= self.limit:
                raise TrainingError(
                    f"{self.row} steps in a row, to step {step - len(flags) + number + 1}, had a loss or gradient that "
                    f"is not finite, the last on tiles {self._tiles_of(number)}: begin a new run with a lower "
                    f"train.lr (or with --precision fp32), or look at these tiles"
                )
        self.looked = len(flags)
        return [number for number, flag in enumerate(flags) if flag]

    def records(self, step: int, lr: float, weight: float) -> Iterator[Record]:
        """The record of these steps, after a note if some of them were skipped."""
        assert self.sums is not None
        skipped, steps = self.check(step), len(self.skipped)
        learned = steps - len(skipped)
        sums = self.ranks.mean(self.sums).tolist()
        means = {name: value / learned if learned else math.nan for name, value in zip(self.names, sums, strict=True)}
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        if skipped:
            first = skipped[0]
            usual = " (usual in fp16, until its scale fits)" if self.scaled else ""
            yield Note(
                f"{len(skipped)} of {steps} steps skipped{usual}: loss or gradient not finite, first at step "
                f"{step - steps + first + 1} on tiles {self._tiles_of(first)}"
            )
        standard = {name: means.pop(name) for name in MEANS}
        yield StepRecord(
            step=step,
            **standard,
            weight=weight,
            lr=lr,
            images_per_s=self.images * steps / elapsed,
            data_wait=min(self.waited_s / elapsed, 1.0),
            memory_mib=peak_memory_mib(self.device),
            skipped=len(skipped),
            extra=means,
        )

    def _tiles_of(self, number: int) -> str:
        """The tiles of a step, of all processes."""
        different = list(dict.fromkeys(tile for part in self.ranks.gathered(self.tiles[number]) for tile in part))
        more = f" and {len(different) - TOLD} more" if len(different) > TOLD else ""
        return ", ".join(different[:TOLD]) + more

    def leave_out(self, seconds: float) -> None:
        """Do not count time that was not spent on training."""
        self.began += seconds
