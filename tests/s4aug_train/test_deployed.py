"""The module that is traced computes what a segmenter does, whatever the size, the stride and what is not real."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.deployed import Deployed
from s4aug_train.model import own_network
from s4aug_train.segmenter import Segmenter

NORMALIZATION = Normalization((100.0, 7.0), (50.0, 3.0), "given")
TABLE = ClassTable(tuple(ClassEntry(name, value=i) for i, name in enumerate("abc")))


def network_of(stride):
    torch.manual_seed(stride)
    return own_network(nn.Sequential(nn.Conv2d(2, 3, 3, stride=stride, padding=1)), 3, 2).eval()


NETWORKS = {stride: network_of(stride) for stride in (1, 2, 4, 8, 32)}


@given(
    stride=st.sampled_from(sorted(NETWORKS)),
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 99),
)
def test_it_is_what_a_segmenter_says(stride, batch, size, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 2, *size), generator=generator, dtype=torch.uint8)
    valid = torch.rand(batch, 1, *size, generator=generator) > 0.2
    segmenter = Segmenter(NETWORKS[stride], TABLE, 2, "uint8", NORMALIZATION, torch.device("cpu"))
    expected = segmenter.probabilities(segmenter.inputs(images, valid))
    deployed = Deployed(NETWORKS[stride], NORMALIZATION, stride)
    pixels = torch.where(valid, images.float(), torch.nan)
    with torch.no_grad():
        torch.testing.assert_close(deployed(pixels), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_band_without_a_value_makes_the_whole_pixel_unreal(value):
    deployed = Deployed(NETWORKS[1], NORMALIZATION, 1)
    images = torch.rand(1, 2, 5, 6) * 255
    images[0, 1, 2, 3] = value
    mean = images.clone()
    mean[0, :, 2, 3] = torch.tensor(NORMALIZATION.mean)
    assert torch.equal(deployed(images), deployed(mean))
