"""What tests of methods share: a batch of random tiles, a network without context, and a way to run a method."""

import pytest
import torch

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.pool import Pool
from s4aug_train.methods import Batch, Setup, make_method
from s4aug_train.presets import configured
from s4aug_train.rng import stream_seed


class Pixelwise(torch.nn.Module):
    """A network without context: a 1x1 convolution."""

    def __init__(self, classes=6):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, classes, 1)
        self.calls = []

    def forward(self, images):
        self.calls.append(tuple(images.shape))
        return self.conv(images)


@pytest.fixture
def pixelwise():
    """A class of networks without context; `calls` holds the shapes of what they were shown."""
    return Pixelwise


@pytest.fixture
def normalization():
    return Normalization((100.0, 110.0, 120.0), (50.0, 55.0, 60.0), "measured")


@pytest.fixture
def make(normalization):
    """A function that makes a method of its name, for crops of 48 px and 6 classes."""

    def make(name, *, class_weights=None, **settings):
        config = configured({"method.name": name, "train.steps": 100, "train.crop": 64, **settings})
        return make_method(Setup(config, normalization, 6, class_weights))

    return make


@pytest.fixture
def run():
    """A function that makes the losses of a batch, with the method's partner if it has one."""

    def run(method, network, batch, partner=None):
        partner = partner if partner is not None else method.partner(network)
        return method.losses(network, batch, partner)

    return run


@pytest.fixture
def make_batch(make_tile):
    """A function that makes the batch of a step, of five random tiles of 80 x 96 px."""

    def make(method=None, *, step=0, labelled=4, unlabelled=2, seed=0, tiles=None, crop=64):
        tiles = tiles or [make_tile((80, 96), name=str(i), seed=i) for i in range(5)]
        margins = method.margins() if method is not None else (0, 0)
        return Batch(
            step,
            seed,
            torch.tensor([stream_seed(seed, step, "batch")]),
            torch.tensor(0.0 if method is None else method.weight(step)),
            Pool(tiles, crop, labelled=True, margin=margins[0]).crops(seed, step, "labeled", labelled),
            Pool(tiles, crop, labelled=False, margin=margins[1]).crops(seed, step, "unlabeled", unlabelled),
        )

    return make
