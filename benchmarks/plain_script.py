"""S4Net in plain PyTorch and Kornia: the script that one would write without s4aug, and that ours is timed against.

    python benchmarks/plain_script.py --data DeepGlobe --steps 1000 --labeled 100 --device cuda --precision bf16

Only the network is ours, so that nothing but what surrounds it differs. The folder is DeepGlobe's:
`train/ID_sat.jpg` and `train/ID_mask.png`.
"""

import argparse
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import kornia
import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from s4aug_train.model import UNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORE = 255
CLASSES = 6
# By 4 red + 2 green + blue: urban, agriculture, rangeland, forest, water, barren; black is unknown.
CLASS_OF_COLOUR = torch.tensor([IGNORE, 4, 3, 0, IGNORE, 2, 1, 5], dtype=torch.uint8)
MASK_THRESHOLD = 0.999
WORKERS = max(1, (os.cpu_count() or 2) // 2)  # of each of two loaders

Pair = tuple[Path, Path | None]  # image, mask


class Tiles(Dataset[tuple[Tensor, Tensor]]):
    """A random crop of each tile, flipped at random and normalised, with its labels where it has a mask."""

    def __init__(self, files: Sequence[Pair], crop: int) -> None:
        self.files = files
        self.crop = crop
        self.mean, self.std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # [3, h, w] float32, [h, w] int64
        picture, mask = self.files[index]
        image = read(picture)
        colours = torch.zeros_like(image) if mask is None else read(mask)
        top, left = (random.randint(0, side - self.crop) for side in image.shape[1:])
        flips = [axis for axis in (-1, -2) if random.random() < 0.5]
        image, colours = (
            part[:, top : top + self.crop, left : left + self.crop].flip(flips) for part in (image, colours)
        )
        return (image / 255 - self.mean) / self.std, to_labels(colours)


def read(path: Path) -> Tensor:  # [3, H, W] uint8
    return torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)).permute(2, 0, 1)


def to_labels(colours: Tensor) -> Tensor:  # [3, h, w] uint8 -> [h, w] int64
    red, green, blue = (colours > 127).long()
    return CLASS_OF_COLOUR[4 * red + 2 * green + blue].long()


class View(NamedTuple):
    """Moved crops, a mask of ones that moved along, and how they moved."""

    image: Tensor  # [B, 3, h, w]
    mask: Tensor  # [B, 1, h, w], 1 where real
    matrix: Tensor  # [B, 3, 3]


def perturb(augment: K.RandomAffine, crops: Tensor) -> View:
    """Draw a motion for each crop."""
    image = augment(crops)
    matrix = augment.transform_matrix
    mask = augment(torch.ones_like(crops[:, :1]), params=augment._params)
    return View(image, mask, matrix)


def undo(maps: Tensor, view: View) -> Tensor:  # [B, C, h, w]
    """Back to where the crops were."""
    inverse = torch.inverse(view.matrix)[:, :2]
    return kornia.geometry.warp_affine(maps, inverse, (maps.shape[-2], maps.shape[-1]), align_corners=True)


def consistency(logits1: Tensor, view1: View, logits2: Tensor, view2: View) -> Tensor:
    """Mean square of the difference of two undone predictions, where both are real."""
    one, other = undo(logits1.softmax(1), view1), undo(logits2.softmax(1), view2)
    mask = (undo(view1.mask, view1) > MASK_THRESHOLD) & (undo(view2.mask, view2) > MASK_THRESHOLD)
    squares = ((one - other) ** 2).mean(1, keepdim=True)
    return (squares * mask).sum() / mask.sum().clamp_min(1)


class Training:
    """Network, optimizer and augmentation, and the step of them."""

    def __init__(self, network: nn.Module, options: argparse.Namespace) -> None:
        self.options = options
        self.network = network.to(options.device).train()
        self.optimizer = torch.optim.SGD(network.parameters(), lr=options.lr, momentum=0.9, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, options.steps)
        self.augment = K.RandomAffine(15, (0.2, 0.2), (0.75, 1.25), p=1.0, align_corners=True)
        self.done = 0

    def weight(self) -> float:
        """lambda: grows over the first 80 % of the steps."""
        done = min(self.done / (0.8 * self.options.steps), 1.0)
        return 2.0 * math.exp(-5 * (1 - done) ** 2)

    def step(self, images: Tensor, labels: Tensor, crops: Tensor) -> tuple[float, float, float]:
        """Train on a batch; the losses: of both kinds together, supervised, of consistency."""
        images, labels, crops = (part.to(self.options.device, non_blocking=True) for part in (images, labels, crops))
        view1, view2 = perturb(self.augment, crops), perturb(self.augment, crops)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            joint = self.network(torch.cat([images, view1.image, view2.image]))
        logits, logits1, logits2 = joint.float().split([len(images), len(crops), len(crops)])
        supervised = F.cross_entropy(logits, labels, ignore_index=IGNORE)
        unsupervised = consistency(logits1, view1, logits2, view2)
        loss = supervised + self.weight() * unsupervised
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.done += 1
        return loss.item(), supervised.item(), unsupervised.item()


def make_loader(files: Sequence[Pair], batch: int, options: argparse.Namespace) -> DataLoader[tuple[Tensor, Tensor]]:
    """Tiles at random, with replacement, so that no epoch ends in a pause."""
    tiles = Tiles(files, options.crop)
    return DataLoader(
        tiles,
        batch,
        sampler=RandomSampler(tiles, replacement=True, num_samples=options.steps * batch),
        num_workers=options.workers,
        multiprocessing_context=options.start if options.workers else None,
        pin_memory=options.device.startswith("cuda"),
    )


def batches(labeled: Sequence[Pair], unlabeled: Sequence[Pair], options: argparse.Namespace) -> Iterator[list[Tensor]]:
    """Images, their labels, and crops without."""
    loaders = make_loader(labeled, options.batch, options), make_loader(unlabeled, options.batch_unlabeled, options)
    for (images, labels), (crops, _) in zip(*loaders, strict=True):
        yield [images, labels, crops]


def find_files(folder: Path, labeled: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Tiles whose masks are used, and the others."""
    images = sorted(folder.glob("train/*_sat.jpg"))
    if len(images) <= labeled:
        raise SystemExit(f"{folder}/train holds {len(images)} *_sat.jpg, more than --labeled {labeled} are needed")
    random.Random(seed).shuffle(images)
    pairs: list[Pair] = [(image, image.with_name(image.name.replace("_sat.jpg", "_mask.png"))) for image in images]
    return pairs[:labeled], [(image, None) for image, _ in pairs[labeled:]]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder in DeepGlobe's layout")
    parser.add_argument("--labeled", type=int, default=100, help="tiles whose masks are used")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=4, help="labelled crops per step")
    parser.add_argument("--batch-unlabeled", type=int, default=2)
    parser.add_argument("--crop", type=int, default=512, help="px")
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes of each of the two loaders")
    parser.add_argument("--start", choices=("fork", "spawn", "forkserver"), default=None, help="of processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the weights")
    return parser


def main() -> None:
    options = parser().parse_args()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    labeled, unlabeled = find_files(options.data, options.labeled, options.seed)
    training = Training(UNet(CLASSES, encoder=options.encoder), options)
    began = time.perf_counter()
    for step, batch in enumerate(batches(labeled, unlabeled, options), 1):
        loss, supervised, unsupervised = training.step(*batch)
        if step % 20 == 0 or step == options.steps:
            pace = step / (time.perf_counter() - began)
            print(f"step {step}  loss {loss:.4f} = {supervised:.4f} + lambda {unsupervised:.4f}  {pace:.2f} steps/s")
    if options.out:
        torch.save(training.network.state_dict(), options.out)


if __name__ == "__main__":
    main()
