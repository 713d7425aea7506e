"""Datasets of the user's as tiles: what items may be, and what is told of those that are none."""

import numpy as np
import pytest
import torch

from s4aug_train.data.own import OwnData
from s4aug_train.errors import DataError, UnreadableError

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


class Corrupt(Tiles):
    """Some of its items raise."""

    def __init__(self, *broken, error=None, **options):
        super().__init__(**options)
        self.broken, self.error = broken, error or OSError("bad CRC")

    def __getitem__(self, index):
        if index in self.broken:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.parametrize(
    "error", [OSError("bad\nCRC"), ValueError("bad CRC"), KeyError("bad CRC"), IndexError("bad CRC")]
)
def test_whatever_a_dataset_raises_names_the_item_in_one_line(error):
    dataset = OwnData(CLASSES, Corrupt(2, error=error), Tiles()).dataset()
    kind = type(error).__name__
    with pytest.raises(
        UnreadableError, match=rf"dataset item labeled:2 cannot be read \({kind}: .*bad CRC.*\)"
    ) as caught:
        list(dataset.labeled)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    assert caught.value.name == "labeled:2"


def test_full_memory_is_no_damage_of_an_item():
    with pytest.raises(MemoryError):
        OwnData(CLASSES, Corrupt(0, error=MemoryError()), Tiles()).dataset(skip=True)


def test_a_first_item_that_cannot_be_read_is_fatal_or_left_out():
    parts = CLASSES, Corrupt(0, bands=2), Corrupt(0, 1, bands=2)
    with pytest.raises(DataError, match="labeled:0 cannot be read"):
        OwnData(*parts).dataset()
    dataset = OwnData(*parts).dataset(skip=True)
    assert (dataset.bands, dataset.dtype) == (2, "uint8")
    assert set(dataset.left_out) == {"labeled:0", "val:0", "val:1"}
    pixels = np.concatenate([Tiles(bands=2)[i][0].numpy().reshape(2, -1) for i in (1, 2, 3)], 1)
    np.testing.assert_allclose(dataset.normalization.mean, pixels.mean(1), rtol=1e-6)


def test_a_part_of_which_nothing_can_be_read_is_refused():
    with pytest.raises(DataError, match="none of the tiles can be read; one of them: dataset item val:0"):
        OwnData(CLASSES, Tiles(), Corrupt(0, 1, 2, 3)).dataset(skip=True)


def test_an_item_that_is_no_tile_is_refused_even_where_unreadable_ones_are_left_out():
    with pytest.raises(DataError, match=r"must be \(image, mask\)") as caught:
        OwnData(CLASSES, [{"img": 1}], Tiles()).dataset(skip=True)
    assert not isinstance(caught.value, UnreadableError)
