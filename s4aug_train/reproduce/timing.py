"""How long a grid will take, by a short timing of its steps or by its finished runs."""

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from ..config import Config
from ..data.cache import Tile
from ..data.normalization import choose_normalization
from ..data.pool import Pool
from ..engine import Loader, TrainingState, choose_device
from ..methods import Method, Setup, make_method
from ..model import UNet
from ..windows import Windows
from .fits import visible_gpus
from .grid import SUPERVISED, Cell
from .survey import Survey

WARM_STEPS, MOST_STEPS = 2, 8
ENOUGH_S = 2.0  # of timing
FORWARD_SHARE = 1 / 3  # of a step's time: a window of the evaluation has no backward, which takes twice as long


@dataclass(frozen=True)
class Pace:
    """How long runs take.

    Args:
        step_s: Seconds of a step, by method, where several runs share the machine as they do here.
        jobs: Runs at once.
        size: (H, W) of a tile, px.
        val: Validation tiles.
    """

    jobs: int
    size: tuple[int, int]
    val: int
    step_s: Mapping[str, float] = field(default_factory=dict)

    def run_s(self, method: str, config: Config) -> float:
        """Seconds of a whole run: its steps, and one evaluation."""
        train, step_s = config.train, self.step_s[method]
        crops = train.accumulate * (train.batch_labeled + (0 if method in SUPERVISED else 2 * train.batch_unlabeled))
        windows = Windows(train.window, train.stride)
        rows, columns = (len(windows.spans(side)) for side in self.size)
        area = min(train.window, *self.size) ** 2 / train.crop**2  # of a window, in crops
        evaluation_s = self.val * rows * columns * area * FORWARD_SHARE * step_s / crops
        return train.steps * step_s + evaluation_s

    def left_s(self, left: Mapping[Cell, float], configs: Mapping[Cell, Config]) -> float:
        """Seconds until all is done, from the share of each run that is left to do."""
        seconds = [share * self.run_s(cell.method, configs[cell]) for cell, share in left.items()]
        # However many there could be at once, the longest one has to be waited for.
        return max(sum(seconds) / self.jobs, max(seconds, default=0.0))


def timed(config: Config, survey: Survey, jobs: int) -> float:
    """Seconds of a step of a run, where `jobs` runs share the machine: its cores, or its GPUs."""
    device, bands, classes = choose_device(config.train.device), survey.bands, len(survey.classes)
    if device.type != "cuda":
        threads = torch.get_num_threads() / (os.cpu_count() or 1)
        return step_seconds(config, bands, classes) * max(1.0, jobs * threads)
    # In a process of its own, whose memory on the GPU is given back.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        alone = pool.submit(step_seconds, config, bands, classes).result()
    return alone * max(1.0, jobs / max(1, len(visible_gpus(config))))


def step_seconds(config: Config, bands: int, classes: int) -> float:
    """Seconds of a step on made-up pixels, a mean over a few after a few."""
    state, loader = _made_up(config, bands, classes)
    began, counted = 0.0, 0
    for done, (parts, _) in enumerate(loader.batches(0, WARM_STEPS + MOST_STEPS), 1):
        # Asking for a value waits for the device.
        float(state.train_on(parts).told["loss"])
        if done <= WARM_STEPS:
            began = time.perf_counter()
            continue
        counted = done - WARM_STEPS
        if time.perf_counter() - began > ENOUGH_S:
            break
    return (time.perf_counter() - began) / counted


def _made_up(config: Config, bands: int, classes: int) -> tuple[TrainingState, Loader]:
    train, device = config.train, choose_device(config.train.device)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (bands, train.crop, train.crop)).astype(np.uint8)
    labels = rng.integers(0, classes, (train.crop, train.crop)).astype(np.uint8)
    sums = np.stack([np.full(bands, image[0].size), image.sum((1, 2)), (image.astype(np.float64) ** 2).sum((1, 2))])
    tile = Tile("made up", image, labels, None, (), sums)
    method = make_method(Setup(config, choose_normalization([tile]), classes))
    state = TrainingState(UNet(classes, bands, config.model.encoder).to(device), method, train, device)
    return state, _loader(tile, config, method, device)


def _loader(tile: Tile, config: Config, method: Method, device: torch.device) -> Loader:
    train, margins = config.train, method.margins()
    pools = [
        Pool([tile], train.crop, labelled=labelled, margin=margin)
        for labelled, margin in zip((True, False), margins, strict=True)
    ]
    return Loader(
        labeled=pools[0],
        unlabeled=pools[1] if method.uses_unlabeled else None,
        batch_labeled=train.batch_labeled,
        batch_unlabeled=train.batch_unlabeled,
        seed=0,
        weight=method.weight,
        workers=0,
        device=device,
        own_parts=train.accumulate,
        parts=train.accumulate,
    )


def told(seconds: float) -> str:
    """A duration for people."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
