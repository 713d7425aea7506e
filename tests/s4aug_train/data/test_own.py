"""Datasets of the user's as tiles: what items may be, and what is told of those that are none."""

import numpy as np
import pytest
import torch

from s4aug_train.data.own import OwnData
from s4aug_train.errors import DataError

CLASSES = ("field", "forest", "water")


class Tiles(torch.utils.data.Dataset):
    """Random tiles, as (image, mask), made when they are asked for."""

    def __init__(self, count=4, *, bands=3, dtype=np.uint8, form="pair"):
        self.count, self.bands, self.dtype, self.form = count, bands, dtype, form
        self.read = []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        rng = np.random.default_rng(index)
        size = (70 + index, 80)
        image = torch.from_numpy(rng.integers(0, 200, (self.bands, *size)).astype(self.dtype))
        mask = torch.from_numpy(rng.integers(0, 3, size))
        return {"pair": (image, mask), "named": {"image": image, "mask": mask, "place": "x"}, "bare": image}[self.form]


@pytest.mark.parametrize("form", ["pair", "named"])
def test_items_become_tiles(form):
    dataset = OwnData(CLASSES, Tiles(form=form), Tiles(2, form=form), Tiles(5, form="bare")).dataset()
    tile = dataset.labeled[2]
    image, mask = Tiles()[2]
    np.testing.assert_array_equal(tile.image, image.numpy())
    np.testing.assert_array_equal(tile.labels, mask.numpy())
    assert (tile.labels.dtype, tile.size, tile.valid) == (np.uint8, (72, 80), None)
    assert (len(dataset.labeled), len(dataset.val), len(dataset.unlabeled)) == (4, 2, 5)
    assert dataset.unlabeled[1].labels is None
    assert dataset.classes.names == CLASSES
    assert (dataset.split.labeled[0], dataset.split.val[1]) == ("labeled:0", "val:1")


def test_nothing_is_read_that_is_not_needed():
    labeled, val = Tiles(1000), Tiles(1000)
    dataset = OwnData(CLASSES, labeled, val).dataset()
    assert dataset.normalization.source == "imagenet"
    assert len(labeled.read) <= 2
    assert val.read == [0]


def test_statistics_of_other_pixels_are_measured_or_given():
    dataset = OwnData(CLASSES, Tiles(3, bands=2, dtype=np.float32), Tiles(2, bands=2, dtype=np.float32)).dataset()
    pixels = np.concatenate([Tiles(bands=2, dtype=np.float32)[i][0].numpy().reshape(2, -1) for i in range(3)], 1)
    np.testing.assert_allclose(dataset.normalization.mean, pixels.mean(1), rtol=1e-6)
    np.testing.assert_allclose(dataset.normalization.std, pixels.std(1), rtol=1e-6)
    given = OwnData(CLASSES, Tiles(), Tiles(), normalization=([1, 2, 3], [4, 5, 6])).dataset()
    assert given.normalization.mean == (1.0, 2.0, 3.0)


def test_labelled_tiles_can_be_among_the_unlabelled_ones():
    dataset = OwnData(CLASSES, Tiles(4), Tiles(2), Tiles(5, form="bare")).dataset(include_labeled=True)
    assert [tile.id for tile in dataset.unlabeled][-1] == "labeled:3"
    assert len(dataset.unlabeled) == 9


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.zeros(3, 8, 8, dtype=torch.uint8),), r"labeled:0 must be \(image, mask\) or have both by name"),
        ({"img": 1}, r"got a dictionary of img"),
        ((torch.zeros(8, 8), torch.zeros(8, 8)), r"image must be \[C, H, W\].*got \[8, 8\]"),
        ((torch.zeros(3, 8, 8).double(), torch.zeros(8, 8).long()), r"uint8, uint16 or float32, got .* float64"),
        ((torch.zeros(3, 8, 8), torch.zeros(8, 9).long()), r"mask must be \[8, 8\] of integers"),
        ((torch.zeros(3, 8, 8), torch.zeros(8, 8)), r"mask must be \[8, 8\] of integers.*float32"),
        ((torch.zeros(3, 8, 8), torch.full((8, 8), 7)), r"mask holds 7, classes are 0 to 2 and 255 for unknown"),
        (("a.tif", "b.tif"), r"expected numbers, got str"),
    ],
)
def test_items_that_are_no_tiles_are_named(item, message):
    with pytest.raises(DataError, match=message):
        OwnData(CLASSES, [item], Tiles()).dataset().labeled[0]


def test_parts_of_two_kinds_are_refused_at_once():
    with pytest.raises(DataError, match="tile val:0 has 4 bands of uint8, tile labeled:0 3 of uint8"):
        OwnData(CLASSES, Tiles(), Tiles(bands=4)).dataset()


def test_real_pixels_may_be_told():
    image, mask = Tiles()[0]
    valid = torch.rand(mask.shape) > 0.5
    dataset = OwnData(CLASSES, [{"image": image, "mask": mask, "valid": valid}], Tiles()).dataset()
    np.testing.assert_array_equal(dataset.labeled[0].valid, valid.numpy())
    with pytest.raises(DataError, match=r"valid must be \[70, 80\] as its image, got \[8, 8\]"):
        OwnData(CLASSES, [(image, mask, torch.ones(8, 8))], Tiles()).dataset()


@pytest.mark.parametrize("part", ["labeled", "val"])
def test_an_empty_dataset_is_refused(part):
    with pytest.raises(DataError, match=f"dataset.{part} is empty"):
        OwnData(CLASSES, **{"labeled": Tiles(), "val": Tiles(), part: []}).dataset()
