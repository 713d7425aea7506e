"""A network of two layers, for `--model`: what is fuzzed is what lies around it."""

from torch import nn

NAME = "tests.fuzz.network:make"


def make(classes, bands):
    """A network at a stride of 2."""
    first = nn.Conv2d(bands, 4, 3, padding=1, stride=2)
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, classes, 1))
