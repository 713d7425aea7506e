from dataclasses import replace

import numpy as np
import pytest
import torch

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.errors import DataError, UnreadableError
from s4aug_train.evaluation import evaluate
from s4aug_train.segmenter import Segmenter
from s4aug_train.windows import Windows

IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3, "measured")
NAMES = ["a", "b", "c", "d", "e", "f"]


class FirstBand(torch.nn.Module):
    """Predicts class `first band modulo 6`."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, images):
        return torch.nn.functional.one_hot(images[:, 0].long() % 6, 6).permute(0, 3, 1, 2).float() * 50


def segmenter_of(network):
    table = ClassTable(tuple(ClassEntry(name, value=i) for i, name in enumerate(NAMES)))
    return Segmenter(network, table, 3, "uint8", IDENTITY, torch.device("cpu"))


def run(tiles, **options):
    return evaluate(segmenter_of(FirstBand()), tiles, Windows(32, 20), step=7, **options)


def test_iou_is_that_of_a_brute_force_count_over_the_dataset(make_tile):
    tiles = [make_tile((40, 50), seed=i) for i in range(3)]
    for tile in tiles:
        tile.labels[:5] = 255
        tile.labels[tile.labels == 4] = 255
    truth = np.concatenate([tile.labels.ravel() for tile in tiles])
    guess = np.concatenate([(tile.image[0] % 6).ravel() for tile in tiles])
    known = truth != 255
    expected = {
        name: ((truth == k) & (guess == k) & known).sum() / (((truth == k) | (guess == k)) & known).sum()
        for k, name in enumerate(NAMES)
        if (truth == k).any()
    }
    record = run(tiles)
    assert record.iou["e"] is None
    assert {k: v for k, v in record.iou.items() if v is not None} == pytest.approx(expected)
    assert record.miou == pytest.approx(np.mean(list(expected.values())))
    assert np.sum(record.confusion) == known.sum()
    assert (record.step, record.tiles, record.classes) == (7, 3, NAMES)


def test_a_perfect_network_has_miou_one_and_an_empty_truth_none(make_tile):
    tile = make_tile((20, 20))
    tile.labels[:] = tile.image[0] % 6
    assert run([tile]).miou == 1
    tile.labels[:] = 255
    assert run([tile]).miou is None


def test_the_networks_mode_is_put_back(make_tile):
    network = FirstBand().train()
    evaluate(segmenter_of(network), [make_tile((20, 20))], Windows())
    assert network.training


def test_progress_counts_tiles(make_tile):
    seen = []
    tiles = [make_tile((20, 20), seed=i) for i in range(3)]
    evaluate(
        segmenter_of(FirstBand()),
        tiles,
        Windows(),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_nodata_pixels_are_not_counted(make_tile):
    valid = np.ones((20, 20), bool)
    valid[:, :12] = False
    record = run([make_tile((20, 20), valid=valid)])
    assert np.sum(record.confusion) == 20 * 8


def test_an_evaluation_can_be_given_up(make_tile):
    seen = []
    tiles = [make_tile((20, 20), seed=i) for i in range(3)]
    record = evaluate(
        segmenter_of(FirstBand()),
        tiles,
        Windows(),
        should_stop=lambda: bool(seen),
        on_progress=lambda done, total: seen.append(done),
    )
    assert record is None
    assert seen == [1]


class Unreliable(list):
    """Tiles of which the second cannot be read."""

    def __getitem__(self, index):
        if index == 1:
            raise UnreadableError("tile b is broken; repair it", "b")
        return super().__getitem__(index)


class GoneHalfWay:
    """Labels of which the first rows alone can be read."""

    def __init__(self, labels):
        self.labels = labels

    def __getitem__(self, rows):
        if rows.start > 0:
            raise UnreadableError("tile c is broken; repair it", "c")
        return self.labels[rows]


def test_a_tile_that_cannot_be_read_is_fatal_or_left_out_and_not_counted(make_tile):
    tiles = [make_tile((70, 50), seed=i) for i in range(4)]
    unreliable = Unreliable([*tiles[:3], replace(tiles[3], labels=GoneHalfWay(tiles[3].labels))])
    with pytest.raises(UnreadableError, match="tile b is broken"):
        run(unreliable)
    told = []
    record = run(unreliable, on_unreadable=lambda name, why: told.append(name))
    assert told == ["b", "c"]
    assert record == run([tiles[0], tiles[2]])
    with pytest.raises(DataError, match="none of the tiles can be read; one of them: tile c is broken"):
        run([unreliable[3]], on_unreadable=lambda name, why: None)
