from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_cdt

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.errors import DataError, UnreadableError
from s4aug_train.evaluation import assess, evaluate
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


def pointwise():
    """A network of all confidences, which sees each pixel by itself."""
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 6, 1)
    network.weight.data *= 0.02
    return network.eval()


def patchy(make_tile, size, seed):
    """A tile with labels in patches, unknown pixels and nodata."""
    rng = np.random.default_rng(seed)
    valid = rng.random(size) > 0.1
    tile = make_tile(size, name=f"tile {9 - seed}", seed=seed, valid=valid)
    tile.labels[:] = np.kron(rng.integers(0, 5, (9, 9)), np.ones((20, 20)))[: size[0], : size[1]]
    tile.labels[rng.random(size) < 0.03] = 255
    return tile


def counted(network, tile):
    """Right and all pixels by distance, and the calibration table, from whole arrays at once."""
    with torch.no_grad():
        probabilities = network(torch.from_numpy(tile.image.astype(np.float32))[None])[0].softmax(0).numpy()
    distance = np.zeros(tile.labels.shape)
    for k in range(5):
        same = distance_transform_cdt((tile.labels == 255) | (tile.labels == k), metric="chessboard")
        distance = np.where(tile.labels == k, same, distance)
    known = (tile.labels != 255) & tile.valid
    right = (probabilities.argmax(0) == tile.labels)[known]
    near, calibration = np.zeros((6, 2), int), np.zeros((15, 3))
    np.add.at(near, np.searchsorted([1, 2, 4, 8, 16], distance[known]), np.stack([right, right | True], 1))
    confidence = probabilities.max(0)[known]
    bins = np.searchsorted(np.arange(1, 15) / 15, confidence)
    np.add.at(calibration, bins, np.stack([np.ones_like(confidence), confidence, right], 1))
    return near, calibration


@pytest.mark.parametrize("panel", [32768, 48])
def test_scores_are_those_of_a_count_over_whole_tiles_across_strips_and_panels(make_tile, monkeypatch, panel):
    monkeypatch.setattr("s4aug_train.inference.PANEL_PX", panel)
    tiles = [patchy(make_tile, (90, 130), seed) for seed in range(2)]
    network = pointwise()
    found = assess(segmenter_of(network), tiles, Windows(32, 20), step=5)
    assert [score.id for score in found.tiles] == ["tile 8", "tile 9"]
    for score, tile in zip(found.tiles, reversed(tiles), strict=True):
        near, calibration = counted(network, tile)
        assert np.array_equal(score.near, near)
        assert np.allclose(score.calibration, calibration, atol=1e-3)
        assert (score.near[:, 1] > 0).all()
        assert (score.calibration[:, 0] > 0).sum() > 6
    assert found.record() == evaluate(segmenter_of(network), tiles, Windows(32, 20), step=5)


def test_views_of_test_time_have_their_say(make_tile):
    class Opposite:
        """In place of an average: all that the network holds unlikely."""

        def probabilities(self, segmenter, inputs, valid, seeds):
            return (1 - segmenter.probabilities(inputs)) / 5

    tile = make_tile((40, 40))
    tile.labels[:] = tile.image[0] % 6
    assert assess(segmenter_of(FirstBand()), [tile], Windows(32, 20)).miou == 1
    assert assess(segmenter_of(FirstBand()), [tile], Windows(32, 20), tta=Opposite()).miou == 0


def test_an_assessment_leaves_out_what_cannot_be_read_and_can_be_given_up(make_tile):
    tiles = [make_tile((70, 50), name=name, seed=i) for i, name in enumerate("abc")]
    broken = [*tiles[:2], replace(tiles[2], labels=GoneHalfWay(tiles[2].labels))]
    told = []
    found = assess(
        segmenter_of(FirstBand()), broken, Windows(32, 20), on_unreadable=lambda name, why: told.append(name)
    )
    assert told == ["c"]
    assert [score.id for score in found.tiles] == ["a", "b"]
    with pytest.raises(UnreadableError, match="tile c is broken"):
        assess(segmenter_of(FirstBand()), broken, Windows(32, 20))
    assert assess(segmenter_of(FirstBand()), tiles, Windows(), should_stop=lambda: True) is None
