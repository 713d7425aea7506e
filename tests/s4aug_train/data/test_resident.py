"""Tiles held on a device give the same crops as those of the map, and are held there only if they fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s4aug_train.data import resident
from s4aug_train.data.dataset import Dataset
from s4aug_train.data.pool import Pool
from s4aug_train.data.resident import free_bytes, held_on, place, tile_bytes
from s4aug_train.errors import ConfigError
from s4aug_train.preparation import _placed
from s4aug_train.presets import configured
from s4aug_train.ranks import ALONE

CPU = torch.device("cpu")


@pytest.fixture
def tiles(make_tile):
    valid = np.random.default_rng(0).random((70, 90)) < 0.9
    return [
        make_tile((80, 96), name="plain"),
        make_tile((70, 90), name="nodata", valid=valid),
        make_tile((40, 50), name="small"),
        make_tile((80, 96), name="bare", labelled=False),
    ]


@pytest.mark.parametrize("margin", [0, 11])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_held_tiles_give_the_same_crops(make_tile, margin, dtype):
    tiles = [make_tile((80, 96), name=str(i), seed=i, dtype=dtype) for i in range(3)]
    for labelled in (True, False):
        mapped = Pool(tiles, 48, labelled=labelled, margin=margin)
        held = Pool(held_on(tiles, CPU), 48, labelled=labelled, margin=margin)
        for step in range(4):
            first, second = (pool.crops(0, step, "s", 3) for pool in (mapped, held))
            assert first.ids == second.ids
            for name in ("images", "valid", "labels"):
                one, other = getattr(first, name), getattr(second, name)
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one, other)


def test_bytes_are_those_of_pixels_labels_and_masks(tiles):
    assert [tile_bytes(tile) for tile in tiles] == [80 * 96 * 4, 70 * 90 * 5, 40 * 50 * 4, 80 * 96 * 3]


@pytest.mark.parametrize(("free", "fits"), [(10**9, True), (10**5, False)])
def test_auto_holds_what_fits_into_half_of_the_free_memory(tiles, monkeypatch, free, fits):
    monkeypatch.setattr(resident, "free_bytes", lambda device: free)
    placement = place(tiles, CPU, "auto")
    assert (placement.resident, placement.free) == (fits, free)
    assert ("in the memory of cpu" if fits else "memory map") in str(placement)
    assert not place(tiles, CPU, "map").resident


def test_masks_of_unlabelled_tiles_take_no_memory(make_tile):
    tiles = [make_tile((80, 96), name=name) for name in "abc"]
    method = SimpleNamespace(labelled_tiles=lambda labeled, unlabeled: labeled, uses_unlabeled=True)
    parts = {"labeled": tiles[:1], "unlabeled": tiles, "val": []}
    dataset = Dataset(classes=None, split=None, normalization=None, **parts)
    labeled, unlabeled, where = _placed(configured({}).train, dataset, method, CPU, ALONE, None)
    assert [tile.labels is None for tile in (*labeled, *unlabeled)] == [False, False, True, True]
    assert "in the memory of cpu" in where
    assert sum(tile_bytes(tile) for tile in {tile.id: tile for tile in (*unlabeled, *labeled)}.values()) == 80 * 96 * 10


def test_what_cannot_be_held_is_refused(tiles, monkeypatch):
    monkeypatch.setattr(resident, "free_bytes", lambda device: 10**4)
    with pytest.raises(ConfigError, match=r"tiles take .* GiB, cpu has .* use train.pool=auto"):
        place(tiles, CPU, "device")


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(resident, "CONTROL_GROUP", tmp_path)
    whole = free_bytes(CPU)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert free_bytes(CPU) == 3_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(CPU) > whole / 2


def test_free_memory_is_measured():
    assert 2**20 < free_bytes(CPU) < 2**50
