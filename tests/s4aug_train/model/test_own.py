"""Networks of the user's: any size, any stride, and what is told of those that cannot serve."""

import sys
import types

import pytest
import torch
from torch import nn

from s4aug_train.errors import ConfigError
from s4aug_train.model import own_network


class Strict(nn.Module):
    """Fails unless sides are multiples of 32, as many networks do."""

    def __init__(self, stride=1, classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, stride, stride=stride)

    def forward(self, images):
        assert images.shape[-2] % 32 == images.shape[-1] % 32 == 0
        return self.conv(images)


@pytest.mark.parametrize("size", [(64, 64), (65, 33), (1, 100), (96, 31)])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_images_of_any_size_give_logits_of_the_stride(size, stride):
    network = own_network(Strict(stride), 5, 3)
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, *(-(-side // stride) for side in size))


def test_what_a_network_says_of_the_images_is_left_as_it_is():
    inner = Strict()
    network, images = own_network(inner, 5, 3), torch.randn(2, 3, 40, 70)
    torch.testing.assert_close(network(images), inner.conv(images))


def test_the_trial_leaves_mode_and_statistics_as_they_were():
    inner = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Dropout(0.5).eval())
    before = {key: value.clone() for key, value in inner.state_dict().items()}
    own_network(inner, 5, 3)
    assert [module.training for module in inner] == [True, True, False]
    assert all(torch.equal(value, before[key]) for key, value in inner.state_dict().items())


@pytest.fixture
def module(monkeypatch):
    found = types.ModuleType("their_networks")
    found.make = lambda classes, bands: Strict(2, classes)
    found.broken = lambda classes, bands: 1 / 0
    found.number = lambda classes, bands: 3
    monkeypatch.setitem(sys.modules, "their_networks", found)


def test_a_network_is_found_by_its_name(module):
    assert own_network("their_networks:make", 7, 3)(torch.zeros(1, 3, 64, 64)).shape == (1, 7, 32, 32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_networks:absent", "their_networks has no function absent"),
        ("their_networks:broken", r"failed: ZeroDivisionError.*classes=5, bands=3"),
        ("their_networks:number", "must be a torch.nn.Module, got int"),
        ("their_networks", "takes package.module:function"),
    ],
)
def test_a_name_that_gives_no_network_is_told(module, name, message):
    with pytest.raises(ConfigError, match=message):
        own_network(name, 5, 3)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.value = value

    def forward(self, images):
        return self.value


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Identity(), "has no parameters to train"),
        (nn.Conv2d(3, 5, 1).requires_grad_(False), "has no parameters to train"),
        (nn.Conv2d(4, 5, 1), r"fails on images \[1, 3, 64, 64\]: RuntimeError"),
        (nn.Conv2d(3, 4, 1), r"to logits \[1, 5, 64 / s, 64 / s\].*got \[1, 4, 64, 64\]"),
        (nn.Sequential(nn.Conv2d(3, 5, 1), nn.Upsample(scale_factor=2)), r"got \[1, 5, 128, 128\]"),
        (nn.Sequential(nn.Conv2d(3, 5, 64), nn.Flatten()), r"got \[1, 5\]"),
        (Returns({"out": 1}), "must return logits as one Tensor, got dict"),
    ],
)
def test_a_network_that_cannot_serve_is_told(network, message):
    with pytest.raises(ConfigError, match=message):
        own_network(network, 5, 3)
