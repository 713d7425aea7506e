"""The contest of a run's own loop against the network alone: what the trainer adds to each step."""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor, nn

from s4aug_train.config import TrainConfig
from s4aug_train.data.cache import Tile
from s4aug_train.data.pool import Pool
from s4aug_train.data.resident import held_on
from s4aug_train.engine import Loader, TrainingState, train
from s4aug_train.methods import Batch, Method
from s4aug_train.methods.s4net import S4Net
from s4aug_train.methods.supervision import labelled_images
from s4aug_train.records import StepRecord

from .cases import Case
from .contest import Contender, Contest, Finding
from .tiles import tiles_in_files, tiles_in_memory
from .training import (
    BARE,
    LOSS_SHARE,
    STEP,
    WAIT,
    DescentByHand,
    make_copy,
    make_network,
    make_setup,
    make_state,
    trained_by_hand,
)

WORKERS = 2  # as in a run by default
Tiles = tuple[list[Tile], list[Tile]]


def steps_in_turn(case: Case) -> int:
    """Many beside the batches that are read ahead, which are ready when a turn begins.

    On the CPU steps are long, reading is short beside them, and two are enough.
    """
    if case.device == "cpu":
        return 2
    return 100 if case.kind == "script" else 20


def steps_in_record(case: Case) -> int:
    """As in a run by default; in shorter turns each makes a record, which costs next to nothing there."""
    return min(TrainConfig().log_every, steps_in_turn(case))


def trainer_contest(case: Case) -> Contest:
    """Losses of the first steps are those of steps taken by hand; then the loop is timed as it goes on."""
    network, turn = make_network(case), steps_in_turn(case)
    method = S4Net(make_setup(case, log_every=steps_in_record(case)))
    side = 2 * case.size[0]
    resident = tuple(held_on(part, torch.device(case.device)) for part in tiles_in_memory(side))
    pools = {
        "s4aug-train": make_loader(case, method, (resident[0], resident[1]), workers=0),
        "s4aug-train, memory map": make_loader(case, method, tiles_in_files(side), workers=WORKERS),
    }
    judge = record_judge(case, method, network, pools["s4aug-train"])
    contenders = []
    for name, loader in pools.items():
        loop = Loop(make_state(method, network), loader, turn)
        contenders.append(Contender(name, "ours", loop, judge, counts=turn, figures=loop.figures))
    contenders.append(bare_contender(case, method, network, pools["s4aug-train"].batch(STEP)[0]))
    return Contest(case, tuple(contenders), {})


def make_loader(case: Case, method: Method, tiles: Tiles, *, workers: int) -> Loader:
    """As `fit` makes it."""
    config = method.setup.config.train
    labeled, unlabeled = (
        Pool(part, config.crop, labelled=labelled, margin=margin)
        for part, labelled, margin in zip(tiles, (True, False), method.margins(), strict=True)
    )
    return Loader(
        labeled,
        unlabeled,
        batch_labeled=config.batch_labeled,
        batch_unlabeled=config.batch_unlabeled,
        seed=0,
        weight=method.weight,
        workers=workers,
        device=torch.device(case.device),
    )


class Loop:
    """The loop of a run, a few of its records at a time.

    Args:
        state: Trained as it is called.
        loader: Gives the batches.
        turn: Steps in one call.
    """

    def __init__(self, state: TrainingState, loader: Loader, turn: int) -> None:
        self.count = turn // state.config.log_every
        self.records = train(state, loader, evaluate=lambda step: None, save=lambda best: None)
        self.waits: list[float] = []

    def __call__(self) -> StepRecord:
        """The first record of this turn."""
        records = [record for record in islice(self.records, self.count) if isinstance(record, StepRecord)]
        self.waits.append(sum(record.data_wait for record in records) / len(records))
        return records[0]

    def figures(self) -> dict[str, float]:
        """The middle of what was seen so far."""
        return {WAIT: sorted(self.waits)[len(self.waits) // 2]}


def record_judge(
    case: Case, method: Method, network: nn.Module, loader: Loader
) -> Callable[[StepRecord], list[Finding]]:
    """Means of the first record are those of as many steps taken by hand."""
    batches = [part for step in range(STEP, STEP + steps_in_record(case)) for part in loader.batch(step)]
    expected = trained_by_hand(method, network, batches)

    def judge(record: StepRecord) -> list[Finding]:
        got = (record.loss, record.loss_supervised, record.loss_consistency)
        names = ("total", "supervised", "consistency")
        share = LOSS_SHARE[case.dtype]
        return [Finding(what, abs(a / b - 1), share) for what, a, b in zip(names, got, expected.tolist(), strict=True)]

    return judge


def bare_contender(case: Case, method: S4Net, network: nn.Module, batch: Batch) -> Contender:
    """As many images through the same network and the same optimizer."""
    turn = steps_in_turn(case)
    images = network_input(method, batch.to(torch.device(case.device)))
    bare = BareNetwork(make_state(method, network), images, turn)
    expected = bare.by_hand(network)
    largest = float(expected.abs().max())

    def judge(logits: Tensor) -> list[Finding]:
        difference = (logits.float() - expected.float()).abs()
        return [Finding("logits", float(difference.max()) / largest, LOSS_SHARE[case.dtype])]

    # It draws nothing, moves nothing, reads nothing and compares nothing: no trainer can be faster.
    return Contender(BARE, "limit", bare, judge, counts=turn)


def network_input(method: S4Net, batch: Batch) -> Tensor:  # [B + 2 U, 3, h, w]
    images, _ = labelled_images(method.setup, batch)
    view1, view2 = method.views(batch)
    return torch.cat([images, view1.image, view2.image])


class BareNetwork:
    """Forward, backward from a gradient that is there already, and the optimizer's step; nothing else.

    Args:
        state: Its network is trained.
        images: The same in each step.
        turn: Steps in one call.
    """

    def __init__(self, state: TrainingState, images: Tensor, turn: int) -> None:  # [B, 3, h, w]
        self.state, self.images, self.turn = state, images, turn
        state.set_rate()
        with torch.no_grad():
            like = torch.empty_like(self.forward(make_copy(state.network)))
        generator = torch.Generator(like.device).manual_seed(10)
        self.gradient = like.normal_(generator=generator).div_(like.numel())

    def forward(self, network: nn.Module) -> Tensor:
        with torch.autocast(self.images.device.type, self.state.autocast, enabled=self.state.autocast is not None):
            logits: Tensor = network(self.images)
        return logits

    def __call__(self) -> Tensor:
        """Logits of the last step."""
        for _ in range(self.turn):
            logits = self.forward(self.state.network)
            self.state.optimizer.zero_grad(set_to_none=True)
            logits.backward(self.gradient)
            self.state.optimizer.step()
        return logits.detach()

    def by_hand(self, network: nn.Module) -> Tensor:
        """The same of the first call, by another network of these weights."""
        network = make_copy(network)
        descent = DescentByHand(network, self.state.config)
        for _ in range(self.turn):
            logits = self.forward(network)
            descent.step(torch.autograd.grad(logits, descent.parameters, self.gradient), self.state.step)
        return logits.detach()
