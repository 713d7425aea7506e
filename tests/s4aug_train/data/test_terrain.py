"""A rendered tile is deterministic and hard in the way that it claims."""

import numpy as np
import pytest

from s4aug_train.data.terrain import UNKNOWN, render_tile
from s4aug_train.rng import stream_rng

SHARES = {
    0: (0.10, 0.15),
    1: (0.40, 0.50),
    2: (0.08, 0.12),
    3: (0.12, 0.20),
    4: (0.04, 0.08),
    5: (0.05, 0.09),
}

Tile = tuple[np.ndarray, np.ndarray]


def tile(index: int, size: int = 48, seed: int = 0) -> Tile:
    return render_tile(stream_rng(seed, index, "demo train"), size)


def miou(predicted: np.ndarray, label: np.ndarray) -> float:
    known = label < 6
    confusion = np.bincount(label[known] * 6 + predicted[known], minlength=36).reshape(6, 6)
    return float(np.mean(np.diag(confusion) / (confusion.sum(0) + confusion.sum(1) - np.diag(confusion))))


@pytest.mark.parametrize("size", [32, 47, 256])
def test_a_tile_is_an_image_and_known_labels(size: int) -> None:
    image, label = tile(1, size)
    assert (image.shape, image.dtype) == ((3, size, size), np.uint8)
    assert (label.shape, label.dtype) == ((size, size), np.uint8)
    assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 5, UNKNOWN}
    assert image.std() > 5


def test_a_tile_depends_on_its_generator_alone() -> None:
    first, other = tile(4), tile(5)
    for again, before in zip(tile(4), first, strict=True):
        np.testing.assert_array_equal(again, before)
    assert (other[0] != first[0]).mean() > 0.5


def test_class_shares_are_those_of_the_real_set_roughly() -> None:
    label = np.stack([tile(index, 64)[1] for index in range(300)])
    counts = np.bincount(label.ravel(), minlength=256) / label.size
    for index, (low, high) in SHARES.items():
        assert low <= counts[index] <= high, (index, counts[index])
    assert 0 < counts[UNKNOWN] < 0.005


def test_most_tiles_hold_two_to_four_classes_and_rare_ones_are_missing_from_many() -> None:
    present = [set(np.unique(tile(index, 64)[1])) - {UNKNOWN} for index in range(60)]
    assert sum(2 <= len(classes) <= 4 for classes in present) > 40
    assert sum(len(classes) < 3 for classes in present) > 15
    for index in (0, 2, 3, 4, 5):
        assert 8 < sum(index in classes for classes in present) < 42, index


def test_colour_alone_does_not_decide() -> None:
    tiles = [tile(index, 64) for index in range(60)]
    pixels = np.concatenate([image.reshape(3, -1) for image, _ in tiles], 1).astype(np.float32)  # [3, N]
    label = np.concatenate([label.ravel() for _, label in tiles])
    known, seen = label < 6, np.arange(label.size) < 20 * 64 * 64
    means = np.stack([pixels[:, seen & (label == index)].mean(1) for index in range(6)])  # [6, 3]
    nearest = ((pixels - means[:, :, None]) ** 2).sum(1).argmin(0)
    assert miou(nearest[~seen & known], label[~seen & known]) < 0.35
