"""Run by torchrun from test_ranks.py: each method's gradients on two processes, an evaluation, and what ranks do."""

import sys
from contextlib import nullcontext

import numpy as np
import torch

from s4aug_train.data.cache import Tile
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.pool import Pool
from s4aug_train.engine.passes import Passes
from s4aug_train.errors import ConfigError
from s4aug_train.evaluation import evaluate
from s4aug_train.inference import Windows
from s4aug_train.limits import CHOICES
from s4aug_train.methods import Batch, Setup, make_method
from s4aug_train.presets import configured
from s4aug_train.ranks import ALONE, joined
from s4aug_train.rng import stream_seed

CPU = torch.device("cpu")
NORMALIZATION = Normalization((100.0, 110.0, 120.0), (50.0, 55.0, 60.0), "measured")
SETTINGS = {"train.steps": 100, "train.crop": 64, "train.dice": 0.3, "method.ema": 0.0}


def tiles():
    """Tiles of which different shares are real and labelled."""
    made = []
    for i, share in enumerate((1.0, 0.2, 0.7, 0.05, 0.5)):
        rng = np.random.default_rng(i)
        valid = np.zeros((70, 90), bool)
        valid[:, : int(90 * share)] = True
        labels = rng.integers(0, 6, (70, 90), np.uint8)
        labels[: int(60 * share)] = 255
        made.append(Tile(str(i), rng.integers(0, 256, (3, 70, 90), np.uint8), labels, valid, (), np.empty(0)))
    return made


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 6, 1))


def part(method, number):
    """One of two parts of a step."""
    crops = [
        Pool(tiles(), 64, labelled=i == 0, margin=method.margins()[i]).crops(0, 90, "ab"[i], 2, part=number, parts=2)
        for i in (0, 1)
    ]
    key = torch.tensor([stream_seed(0, 90, "batch")])
    return Batch(90, 0, key, torch.tensor(method.weight(90)), *crops, number, 2)


def learned(name, ranks, numbers):
    """Losses by name, and the gradients of network and partner."""
    method = make_method(Setup(configured({"method.name": name, **SETTINGS}), NORMALIZATION, 6))
    shown = network()
    partner = method.partner(shown)
    passes = Passes(shown, method, ranks)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    told = passes.backward([part(method, n) for n in numbers], partner, scaler, nullcontext(), lambda part: None)
    own = [] if partner is None else list(partner.parameters())
    gradients = [p.grad for p in (*shown.parameters(), *own) if p.grad is not None]
    return {name: ranks.mean(value) for name, value in told.items()}, gradients


def confusion(ranks, stopped=False):
    windows = Windows(48, 32)
    options = {"device": CPU, "ranks": ranks, "should_stop": lambda: stopped}
    record = evaluate(network(), tiles(), "abcdef", NORMALIZATION, windows, **options)
    return None if record is None else torch.tensor(record.confusion)


def names():
    # The teacher would have to be averaged first.
    return [name for name in CHOICES["method.name"] if name != "mean-teacher"]


def results(ranks, numbers):
    return {name: learned(name, ranks, numbers) for name in names()}, confusion(ranks)


def main(path):
    torch.set_num_threads(1)
    with joined(CPU) as ranks:
        found = results(ranks, [ranks.rank])
        # One that is asked to stop ends the evaluation of all.
        assert confusion(ranks, stopped=ranks.rank == 1) is None
        assert ranks.any(ranks.rank == 1)
        assert not ranks.any(False)
        mine = torch.full((3,), float(ranks.rank))
        ranks.follow_first([mine])
        assert mine.tolist() == [0.0] * 3
        ranks.check_same("seed", 3)
        try:
            ranks.check_same("seed", ranks.rank)
        except ConfigError as error:
            told = str(error)
        if ranks.first:
            torch.save({"found": found, "told": told}, path)


def alone():
    """The same by one process in two passes."""
    return results(ALONE, [0, 1])


if __name__ == "__main__":
    main(sys.argv[1])
