"""Crops depend on (seed, step, stream) alone, show every tile, and cut image, labels and validity at one place."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from s4aug_train.data.cache import ArrayFile, Tile
from s4aug_train.data.pool import Pool
from s4aug_train.errors import DataError, UnreadableError


def tile(name="t", size=(40, 50), *, bands=2, dtype=np.uint16, labelled=True, valid=None) -> Tile:
    """Every pixel tells its place: the first band 256 y + x, the label (y + x) % 200."""
    y, x = np.indices(size)
    image = np.stack([256 * y + x + band for band in range(bands)]).astype(dtype)
    labels = ((y + x) % 200).astype(np.uint8) if labelled else None
    return Tile(name, image, labels, valid, (), np.zeros((3, bands)))


def pool(*tiles: Tile, crop=16, labelled=True) -> Pool:
    return Pool(list(tiles), crop, labelled)


def assert_same(one, other) -> None:
    assert one.ids == other.ids
    for name in ("images", "valid", "labels"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def test_a_batch_is_the_same_whatever_was_drawn_before_and_by_whom():
    def fresh() -> Pool:
        return pool(*(tile(f"t{i}", (30 + i, 50 - i)) for i in range(5)))

    one, other = fresh(), fresh()
    in_order = [one.crops(3, step, "labeled", 4) for step in range(12)]
    for step in (7, 2, 7, 11, 0):
        assert_same(other.crops(3, step, "labeled", 4), in_order[step])


def test_steps_seeds_and_streams_differ():
    source = pool(tile(), tile("u"))
    batches = [source.crops(*key, 8).images for key in ((0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b"))]
    assert len({batch.numpy().tobytes() for batch in batches}) == 4


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 10])
def test_every_tile_is_shown_once_before_any_is_shown_again(batch):
    source = pool(*(tile(f"t{i}") for i in range(7)))
    shown = [name for step in range(42) for name in source.crops(0, step, "s", batch).ids]
    for epoch in range(6 * batch):
        assert len(set(shown[7 * epoch : 7 * epoch + 7])) == 7
    assert shown[:7] != shown[7:14]


def test_two_scenes_are_shown_by_their_areas():
    source = pool(tile("small"), tile("large", (160, 200)))
    ids = [name for step in range(17) for name in source.crops(0, step, "s", 1).ids]
    assert Counter(ids) == {"small": 1, "large": 16}


def test_a_tiny_tile_does_not_swell_the_others():
    source = pool(tile("tiny", (2, 2)), tile("t", (40, 50)), crop=16)
    ids = [name for step in range(9) for name in source.crops(0, step, "s", 1).ids]
    assert Counter(ids) == {"tiny": 1, "t": 8}


def test_a_scene_of_16_times_the_area_is_shown_16_times_as_often():
    small = [tile(f"t{i}", (40, 50)) for i in range(6)]
    source = pool(*small, tile("large", (160, 200)))
    counts = Counter(name for step in range(22) for name in source.crops(0, step, "s", 5).ids)
    assert counts == {"large": 5 * 16, **{f"t{i}": 5 for i in range(6)}}


def test_image_labels_and_validity_are_cut_at_one_place():
    size = (40, 50)
    valid = np.random.default_rng(0).random(size) < 0.8
    source = pool(tile(size=size, valid=valid))
    y, x = np.indices((16, 16))
    corners = set()
    for step in range(60):
        crops = source.crops(0, step, "s", 2)
        for image, real, labels in zip(crops.images.numpy(), crops.valid.numpy(), crops.labels.numpy(), strict=True):
            top, left = divmod(int(image[0, 0, 0]), 256)
            corners.add((top, left))
            np.testing.assert_array_equal(image, np.stack([256 * (y + top) + x + left + band for band in range(2)]))
            np.testing.assert_array_equal(real[0], valid[top : top + 16, left : left + 16])
            np.testing.assert_array_equal(labels[0], np.where(real[0], (y + top + x + left) % 200, 255))
    assert len(corners) > 100  # of 875; 112 are expected


def test_every_place_is_possible_and_none_beyond_the_edge():
    source = pool(tile(size=(18, 19)))
    corners = {divmod(int(image[0, 0, 0]), 256) for step in range(60) for image in source.crops(0, step, "s", 4).images}
    assert corners == {(top, left) for top in range(3) for left in range(4)}


def test_a_small_tile_is_padded_with_pixels_that_are_not_real():
    crops = pool(tile(size=(5, 50))).crops(0, 0, "s", 3)
    assert crops.images.shape == (3, 2, 16, 16)
    for image, real, labels in zip(crops.images.numpy(), crops.valid.numpy(), crops.labels.numpy(), strict=True):
        left = int(image[0, 0, 0])
        assert real[0, :5].all()
        assert not real[0, 5:].any()
        assert (labels[0, 5:] == 255).all()
        np.testing.assert_array_equal(labels[0, :5], np.add.outer(np.arange(5), np.arange(16) + left))


def test_a_tile_smaller_both_ways_keeps_its_own_invalid_pixels():
    valid = np.ones((5, 7), bool)
    valid[2, 3] = False
    crops = pool(tile(size=(5, 7), valid=valid)).crops(0, 0, "s", 1)
    expected = np.zeros((16, 16), bool)
    expected[:5, :7] = valid
    np.testing.assert_array_equal(crops.valid[0, 0].numpy(), expected)
    assert int((crops.labels != 255).sum()) == 5 * 7 - 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_crops_keep_the_dtype_and_bits_of_the_source(dtype):
    source = tile(dtype=dtype)
    if dtype == np.float32:
        source.image[:] = np.nan
    crops = pool(source).crops(0, 0, "s", 2)
    assert crops.images.numpy().dtype == dtype
    if dtype == np.uint16:
        assert int(crops.images[0, 1].numpy().max()) > 255
    if dtype == np.float32:
        assert crops.images.isnan().all()


def test_crops_of_real_pixels_carry_no_mask_and_unlabelled_ones_no_labels():
    crops = pool(tile(labelled=False), labelled=False).crops(0, 0, "s", 2)
    assert crops.valid is None
    assert crops.labels is None
    assert (pool(tile(labelled=False)).crops(0, 0, "s", 2).labels == 255).all()


def test_crops_share_no_memory_with_the_tile():
    source = tile(size=(16, 16))
    crops = pool(source).crops(0, 0, "s", 1)
    crops.images.fill_(0)
    crops.labels.fill_(0)
    np.testing.assert_array_equal(source.image, tile(size=(16, 16)).image)
    np.testing.assert_array_equal(source.labels, tile(size=(16, 16)).labels)


def test_a_pool_without_tiles_or_of_two_kinds_is_refused():
    with pytest.raises(DataError, match="no labelled tile to train on"):
        pool()
    with pytest.raises(DataError, match="no unlabelled tile to train on"):
        pool(labelled=False)
    with pytest.raises(DataError, match="tile u has 3 bands of uint16, tile t 2 of uint16"):
        pool(tile(), tile("u", bands=3))
    with pytest.raises(DataError, match="tile u has 2 bands of uint8, tile t 2 of uint16"):
        pool(tile(), tile("u", dtype=np.uint8))


class Unreliable(list):
    """Tiles of which some cannot be read."""

    broken = ()

    def __getitem__(self, index):
        found = super().__getitem__(index)
        if found.id in self.broken:
            raise UnreadableError(f"tile {found.id} is broken; repair it", found.id)
        return found


def unreliable(*broken: str, skip=True, **options) -> Pool:
    source = Pool(Unreliable(tile(f"t{i}") for i in range(6)), 16, labelled=True, skip=skip, **options)
    source.tiles.broken = broken
    return source


def test_the_next_in_the_order_stands_in_for_a_tile_that_cannot_be_read():
    whole, source = unreliable(), unreliable("t2", "t4")
    order = [name for step in range(3) for name in whole.crops(0, step, "s", 2).ids]
    for step in range(3):
        expected, found = whole.crops(0, step, "s", 2), source.crops(0, step, "s", 2)
        assert set(found.unread) <= {"t2", "t4"}
        for n, (name, other) in enumerate(zip(expected.ids, found.ids, strict=True), 2 * step):
            following = [each for each in (order[n:] + order[:n]) if each not in ("t2", "t4")]
            assert other == following[0]
            assert name == other or "broken; repair it" in found.unread[name]
        assert_same(found, unreliable("t4", "t2").crops(0, step, "s", 2))


def test_a_tile_that_comes_back_is_shown_again():
    source = unreliable("t2")
    expected = unreliable().crops(0, 0, "s", 6)
    assert "t2" not in source.crops(0, 0, "s", 6).ids
    source.tiles.broken = ()
    found = source.crops(0, 0, "s", 6)
    assert_same(found, expected)
    assert not found.unread


def test_a_tile_that_cannot_be_read_is_an_error_unless_skipped_and_so_are_all_of_them():
    with pytest.raises(
        UnreadableError, match="tile t2 is broken; repair it, or leave it out with data.unreadable=skip"
    ):
        unreliable("t2", skip=False).crops(0, 0, "s", 6)
    with pytest.raises(DataError, match="none of the tiles can be read; one of them: tile t.* is broken"):
        unreliable(*(f"t{i}" for i in range(6))).crops(0, 0, "s", 2)


@pytest.mark.parametrize("part", ["image", "labels", "valid"])
def test_a_file_of_the_cache_that_vanishes_is_noticed_before_it_is_cut(tmp_path, part):
    def of_files(name) -> Tile:
        made = tile(name, valid=np.ones((40, 50), bool))
        arrays = {}
        for kind in ("image", "labels", "valid"):
            np.save(tmp_path / f"{name}-{kind}.npy", getattr(made, kind))
            array = getattr(made, kind)
            arrays[kind] = ArrayFile(tmp_path / f"{name}-{kind}.npy", array.shape, array.dtype, name)
        return replace(made, **arrays)

    tiles = [of_files("a"), of_files("b")]
    sources = {skip: Pool(tiles, 16, labelled=True, skip=skip) for skip in (True, False)}
    bare = Pool(tiles, 16, labelled=False, skip=True)
    assert set(sources[True].crops(0, 0, "s", 2).ids) == {"a", "b"}
    (tmp_path / f"a-{part}.npy").unlink()
    found = sources[True].crops(0, 0, "s", 2)
    assert found.ids == ("b", "b")
    assert "tile a: the cache entry" in found.unread["a"]
    with pytest.raises(UnreadableError, match="tile a: the cache entry .* is damaged"):
        sources[False].crops(0, 0, "s", 2)
    # Labels that are not cut may be gone.
    assert set(bare.crops(0, 0, "s", 2).ids) == ({"a", "b"} if part == "labels" else {"b"})
