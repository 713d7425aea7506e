"""The contest of whole steps from files: ours against a plain script of PyTorch and Kornia."""

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from s4aug import AffineTransform, View, warp
from s4aug_train.data.cache import Tile, load_tiles
from s4aug_train.data.layouts import TileFile
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.data.resident import held_on, place
from s4aug_train.methods.s4net import S4Net
from s4aug_train.methods.supervision import cross_entropy

from . import plain_script
from .backends import ROUNDING
from .cases import Case
from .consistency import Pair, reference_loss
from .contest import Contender, Contest, Finding, compared
from .fitting import WORKERS, Loop, Tiles, make_loader, record_judge, steps_in_record, steps_in_turn
from .machine import cores
from .peers import FLOAT32_PX
from .pooling import WHITE
from .tiles import IN_FOLDER, cache_in, deepglobe_folder, temporary_folder
from .training import LOSS_SHARE, PRECISION, STEP, STEPS, make_copy, make_network, make_setup, make_state
from .warping import MASK_SHARE, STEEPNESS

SIDE = 2448  # px, of DeepGlobe's tiles
# JPEG leaves decoders some freedom at edges of colour; on average it is less than a step of 255.
JPEG_STEPS = 1.0
SEED = 11


def side_of(case: Case) -> int:
    """Of the tiles; small ones where only results count."""
    return SIDE if case.size[0] >= 256 else 4 * case.size[0]


def script_contest(case: Case) -> Contest:
    """Each way is held to what it should make of its own draws; then steps are timed, data included."""
    network, turn = make_network(case), steps_in_turn(case)
    labeled, unlabeled = plain_script.find_files(deepglobe_folder(side_of(case)), IN_FOLDER, 0)
    method = S4Net(make_setup(case, log_every=steps_in_record(case)))
    tiles = cached(labeled, unlabeled)
    placement = place([*tiles[0], *tiles[1]], torch.device(case.device), "auto")
    if placement.resident:
        tiles = held_on(tiles[0], torch.device(case.device)), held_on(tiles[1], torch.device(case.device))
    loader = make_loader(case, method, tiles, workers=0 if placement.resident else WORKERS)
    loop = Loop(make_state(method, network), loader, turn)
    script = PlainSteps(case, network, labeled, unlabeled, turn)
    judges = record_judge(case, method, network, loader), script_judge(case, network, script, labeled[0], tiles[0][0])
    contenders = (
        Contender("s4aug-train", "ours", loop, judges[0], counts=turn, figures=loop.figures),
        Contender("plain script", "peer", script, judges[1], counts=turn),
    )
    return Contest(case, contenders, {})


def cached(labeled: list[plain_script.Pair], unlabeled: list[plain_script.Pair]) -> Tiles:
    """The tiles as `fit` decodes them, once and for all."""
    with cache_in(temporary_folder()):
        files = [[TileFile(image.stem, image, mask) for image, mask in part] for part in (labeled, unlabeled)]
        return load_tiles(files[0], DEEPGLOBE), load_tiles(files[1], DEEPGLOBE)


class PlainSteps:
    """The script's steps, a few at a time; its first batch and its first draws are kept for the judge.

    Args:
        case: Sizes and precision.
        network: A copy is trained.
        labeled: Pairs of image and mask.
        unlabeled: Images.
        turn: Steps in one call.
    """

    def __init__(
        self,
        case: Case,
        network: nn.Module,
        labeled: list[plain_script.Pair],
        unlabeled: list[plain_script.Pair],
        turn: int,
    ) -> None:
        options = script_options(case)
        self.turn = turn
        self.training = plain_script.Training(make_copy(network), options)
        self.training.done = STEP
        self.batches = plain_script.batches(labeled, unlabeled, options)
        self.first: list[Tensor] | None = None

    def __call__(self) -> list[tuple[float, float, float]]:
        return [self.step() for _ in range(self.turn)]

    def step(self) -> tuple[float, float, float]:
        if self.first is None:
            # Workers take their seeds from these.
            random.seed(SEED)
            torch.manual_seed(SEED)
            self.first = next(self.batches)
            torch.manual_seed(SEED)
            return self.training.step(*self.first)
        return self.training.step(*next(self.batches))


def script_options(case: Case) -> argparse.Namespace:
    """As its users would give them, with all cores reading ahead; at sizes where only results count, none."""
    workers = max(1, cores() // 2) if side_of(case) == SIDE else 0
    return plain_script.parser().parse_args(
        [
            *("--data", ".", "--steps", str(STEPS), "--crop", str(case.size[0])),
            *("--batch", str(case.batch), "--batch-unlabeled", str(case.batch // 2)),
            *("--device", case.device, "--precision", PRECISION[case.dtype]),
            # pytest's process has threads; forking it is no good.
            *("--workers", str(workers), "--start", "spawn"),
        ]
    )


def script_judge(
    case: Case, network: nn.Module, script: PlainSteps, pair: plain_script.Pair, tile: Tile
) -> Callable[[list[tuple[float, float, float]]], list[Finding]]:
    """Its data are ours; its views and the losses of its first step are those of the reference on its own draws."""

    def judge(losses: list[tuple[float, float, float]]) -> list[Finding]:
        assert script.first is not None
        images, labels, crops = (part.to(case.device) for part in script.first)
        torch.manual_seed(SEED)
        views = [plain_script.perturb(script.training.augment, crops) for _ in range(2)]
        truths = [AffineTransform(view.matrix.double(), case.size) for view in views]
        found = same_pixels(pair, tile)
        for view, truth in zip(views, truths, strict=True):
            moved = warp(crops, truth, backend="torch")
            limit = (2 * STEEPNESS * FLOAT32_PX + ROUNDING["float32"]) * WHITE
            wrong = (view.mask > plain_script.MASK_THRESHOLD) != moved.valid
            found.append(compared("view", view.image, moved.image, limit, moved.valid))
            found.append(Finding("mask", float(wrong.float().mean()), MASK_SHARE))
        with torch.no_grad(), torch.autocast(case.device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            joint = make_copy(network)(torch.cat([images, *(view.image for view in views)]))
        logits, *predictions = joint.float().split([len(images), len(crops), len(crops)])
        shown = [View.of(torch.zeros_like(crops[:, :1]), truth) for truth in truths]
        first, second = predictions
        supervised = cross_entropy(logits, labels)
        consistency = reference_loss(Pair((first, second), (shown[0], shown[1])))(first, second)
        expected = (supervised + 2.0 * consistency, supervised, consistency)
        for what, got, wanted in zip(("total", "supervised", "consistency"), losses[0], expected, strict=True):
            found.append(Finding(what, abs(got / float(wanted) - 1), LOSS_SHARE[case.dtype]))
        return found

    return judge


def same_pixels(pair: plain_script.Pair, tile: Tile) -> list[Finding]:
    """What the script decodes is what lies in our cache."""
    image, mask = pair
    assert isinstance(mask, Path)
    decoded, labels = plain_script.read(image), plain_script.to_labels(plain_script.read(mask))
    held = [torch.as_tensor(array[...]).cpu() for array in (tile.image, tile.labels)]  # type: ignore[index]
    difference = (decoded.float() - held[0].float()).abs().mean()
    share = (labels != held[1]).float().mean()
    return [Finding("decoded image", float(difference), JPEG_STEPS), Finding("labels", float(share), 0.0)]
