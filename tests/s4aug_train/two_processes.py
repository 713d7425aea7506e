"""Run by torchrun from test_ranks.py: each method's gradients on two processes, an evaluation, and what ranks do."""

import sys
from contextlib import nullcontext

import numpy as np
import torch

from s4aug_train.data.cache import Tile
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.data.pool import Pool
from s4aug_train.engine import TrainingState
from s4aug_train.engine.interval import Interval
from s4aug_train.engine.passes import Passes
from s4aug_train.engine.state import Outcome
from s4aug_train.errors import ConfigError
from s4aug_train.evaluation import assess, evaluate
from s4aug_train.limits import CHOICES
from s4aug_train.methods import Batch, Setup, make_method
from s4aug_train.model import OwnNetwork
from s4aug_train.presets import configured
from s4aug_train.ranks import ALONE, joined
from s4aug_train.rng import stream_seed
from s4aug_train.segmenter import Segmenter
from s4aug_train.windows import Windows

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


def segmenter():
    table = ClassTable(tuple(ClassEntry(name, value=i) for i, name in enumerate("abcdef")))
    return Segmenter(network(), table, 3, "uint8", NORMALIZATION, CPU)


def confusion(ranks, stopped=False):
    record = evaluate(segmenter(), tiles(), Windows(48, 32), ranks=ranks, should_stop=lambda: stopped)
    return None if record is None else torch.tensor(record.confusion)


def assessment(ranks):
    return assess(segmenter(), tiles(), Windows(48, 32), ranks=ranks).to_json()


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
        ranks.check_same({"seed": 3})
        try:
            ranks.check_same({"device": "cpu", "seed": ranks.rank})
        except ConfigError as error:
            told = str(error)
        check_beginnings(ranks)
        check_idle_layers(ranks)
        check_tiles(ranks)
        assessed = assessment(ranks)
        assert ranks.gathered(assessed) == [assessed] * 2
        if ranks.first:
            torch.save({"found": found, "told": told, "assessed": assessed}, path)


def check_beginnings(ranks):
    """Networks that begin differently are made alike, and so are their teachers."""
    config = configured({"method.name": "mean-teacher", "train.steps": 10})
    torch.manual_seed(ranks.rank)
    state = TrainingState(
        torch.nn.Conv2d(3, 6, 1), make_method(Setup(config, NORMALIZATION, 6)), config.train, CPU, ranks
    )
    ours = [float(weight.detach().sum()) for weight in (state.network.weight, state.partner.network.weight)]
    assert ranks.gathered(ours) == [[ours[0]] * 2] * 2


class Idle(torch.nn.Conv2d):
    """A network with a layer that is not used."""

    def __init__(self):
        super().__init__(3, 6, 1)
        self.unused = torch.nn.Linear(2, 2)


def check_idle_layers(ranks):
    method = make_method(Setup(configured({"method.name": "s4net", **SETTINGS}), NORMALIZATION, 6))
    torch.manual_seed(0)
    shown = OwnNetwork(Idle())
    passes = Passes(shown, method, ranks)
    for _ in range(2):
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        passes.backward([part(method, ranks.rank)], None, scaler, nullcontext(), lambda part: None)
    gradients = ranks.gathered(shown.network.weight.grad)
    assert torch.equal(*gradients)


def check_tiles(ranks):
    """A skipped step is told with the tiles of all processes."""
    interval = Interval(1, CPU, ranks, limit=9)
    told = {"loss": 0.0, "loss_supervised": 0.0, "loss_consistency": 0.0, "valid_fraction": 1.0}
    outcome = Outcome({name: torch.tensor(value) for name, value in told.items()}, torch.tensor(True))
    interval.add(outcome, (f"of {ranks.rank}",), 0.0)
    note, _ = interval.records(1, 0.1, 1.0)
    assert note.text.endswith("first at step 1 on tiles of 0, of 1")


def alone():
    """The same by one process in two passes."""
    return results(ALONE, [0, 1])


if __name__ == "__main__":
    main(sys.argv[1])
