import numpy as np
import pytest
import torch
from scipy import ndimage

from s4aug_train.config import MethodConfig
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.errors import ConfigError
from s4aug_train.segmenter import Segmenter
from s4aug_train.tta import Averaging

IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3, "measured")
TABLE = ClassTable(tuple(ClassEntry(name, value=i) for i, name in enumerate("abc")))


class Lopsided(torch.nn.Module):
    """Not the same for a flipped image: a convolution without any symmetry."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1).double()

    def forward(self, images):
        return self.conv(images.double()).float()


class Pointwise(torch.nn.Module):
    """The same wherever a pixel lies, and smooth in its value."""

    def forward(self, images):
        return 3 * images


def segmenter_of(network):
    return Segmenter(network, TABLE, 3, "float32", IDENTITY, torch.device("cpu"))


def smooth(batch, height, width):
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(batch, 3, height, width)), (0, 0, 6, 6), mode="wrap")
    return torch.from_numpy(noise / noise.std()).float()


def test_flips_are_the_mean_of_four_predictions_turned_back():
    segmenter, images = segmenter_of(Lopsided()), torch.randn(2, 3, 11, 14)
    expected = segmenter.probabilities(images)
    for axes in ([3], [2], [2, 3]):
        expected = expected + segmenter.probabilities(images.flip(axes)).flip(axes)
    seen = Averaging(flips=True).probabilities(segmenter, images, None, torch.arange(2))
    torch.testing.assert_close(seen, expected / 4)


def test_affine_views_of_a_network_that_sees_single_pixels_change_next_to_nothing_up_to_the_edge():
    segmenter, images = segmenter_of(Pointwise()), smooth(2, 96, 96)
    averaging = Averaging.named("affine:6", MethodConfig())
    plain = segmenter.probabilities(images)
    seen = averaging.probabilities(segmenter, images, None, torch.arange(2))
    difference = (seen - plain).abs().amax(1)
    # Interpolation alone: neither the mean nor any pixel at the edge sees what lies beyond the frame.
    assert difference.mean() < 0.01
    edge = torch.cat([difference[:, 0], difference[:, -1], difference[:, :, 0], difference[:, :, -1]])
    assert edge.max() < 0.05
    torch.testing.assert_close(seen.sum(1), torch.ones(2, 96, 96))


def test_pixels_that_are_not_real_enter_nowhere():
    segmenter, images = segmenter_of(Pointwise()), smooth(1, 64, 64)
    valid = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    valid[..., 20:40, 30:] = False
    averaging, seeds = Averaging.named("affine:4", MethodConfig()), torch.tensor([7])
    one, other = (torch.where(valid, images, fill) for fill in (0.0, 50.0))
    real = valid.expand(1, 3, 64, 64)
    seen = [averaging.probabilities(segmenter, each, valid, seeds)[real] for each in (one, other)]
    torch.testing.assert_close(seen[0], seen[1])


def test_an_image_is_seen_the_same_whatever_else_is_in_the_batch():
    segmenter, images = segmenter_of(Lopsided()), smooth(3, 40, 40)
    averaging, seeds = Averaging.named("affine:3", MethodConfig()), torch.tensor([5, 6, 7])
    together = averaging.probabilities(segmenter, images, None, seeds)
    alone = averaging.probabilities(segmenter, images[1:2], None, seeds[1:2])
    torch.testing.assert_close(together[1:2], alone)
    assert (together[1:2] - averaging.probabilities(segmenter, images[1:2], None, seeds[2:])).abs().max() > 1e-3


@pytest.mark.parametrize("text", ["", "flip", "affine", "affine:0", "affine:65", "affine:x", "affine:-1"])
def test_other_names_are_refused(text):
    with pytest.raises(ConfigError, match="flips or affine:K"):
        Averaging.named(text, MethodConfig())
