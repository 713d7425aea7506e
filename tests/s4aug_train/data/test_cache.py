"""The cache holds what the files hold, and decodes each once."""

import os
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from s4aug_train.data import cache, raster
from s4aug_train.data.cache import cache_folder, load_tiles
from s4aug_train.data.layouts import TileFile
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.errors import DataError, UnreadableError
from tests.s4aug_train.data.cache_cases import TABLE, drafts, labels_of, pair, pixels, tiff

pytestmark = pytest.mark.usefixtures("folder")
SWAPPED = ClassTable((ClassEntry("b", value=2), ClassEntry("a", value=1)))


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the files that were decoded."""
    names: list[str] = []

    def recorded(path):
        names.append(path.name)
        return raster.read_info(path)

    monkeypatch.setattr(cache, "read_info", recorded)
    return names


def test_tiles_are_the_pixels_and_labels_that_pillow_reads(tmp_path):
    files = [
        pair(tmp_path / "data", name, size, seed=i)
        for i, (name, size) in enumerate({"b": (20, 30), "a": (7, 5)}.items())
    ]
    tiles = load_tiles(files, TABLE)
    assert [tile.id for tile in tiles] == ["b", "a"]
    for tile, file in zip(tiles, files, strict=True):
        truth = labels_of(file.mask)
        np.testing.assert_array_equal(np.asarray(tile.image), pixels(file.image))
        np.testing.assert_array_equal(np.asarray(tile.labels), truth)
        np.testing.assert_array_equal(tile.image[1:, 2:5, 3:], pixels(file.image)[1:, 2:5, 3:])
        assert (tile.image.dtype, tile.image.shape) == (np.uint8, pixels(file.image).shape)
        assert tile.size == truth.shape
        assert tile.valid is None
        assert tile.class_pixels == ((truth == 0).sum(), (truth == 1).sum())


@pytest.mark.parametrize("rows", [7, 1024])
def test_classes_are_counted_where_the_image_is_real_and_there(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(cache, "ROWS", rows)
    rng = np.random.default_rng(0)
    image, mask = rng.integers(1, 256, (3, 40, 30)).astype(np.uint8), rng.integers(1, 3, (43, 28)).astype(np.uint8)
    image[:, :15] = 0
    (tmp_path / "data").mkdir()
    tiff(tmp_path / "data" / "x.tif", image, nodata=0)
    Image.fromarray(mask).save(tmp_path / "data" / "x_mask.png")
    files = [TileFile("x", tmp_path / "data/x.tif", tmp_path / "data/x_mask.png")]
    (tile,) = load_tiles(files, TABLE, mismatch="crop")
    seen, count = mask[15:40, :28], cache._counted
    assert tile.class_pixels == ((seen == 1).sum(), (seen == 2).sum())
    # Counted once, and again where what was written down is damaged.
    monkeypatch.setattr(cache, "_counted", None)
    assert load_tiles(files, TABLE, mismatch="crop")[0].class_pixels == tile.class_pixels
    monkeypatch.setattr(cache, "_counted", count)
    (written,) = cache.cache_folder().rglob("pixels-*.json")
    for content in ("[1", "[1]", '{"a": 1}', "[true, 1]"):
        written.write_text(content)
        assert load_tiles(files, TABLE, mismatch="crop")[0].class_pixels == tile.class_pixels


def test_an_image_without_a_mask_has_no_labels(tmp_path):
    (tile,) = load_tiles([TileFile("x", pair(tmp_path / "data").image, None)], TABLE)
    assert tile.labels is None
    assert tile.class_pixels == ()


def test_a_second_load_opens_no_image(tmp_path, monkeypatch):
    file = pair(tmp_path / "data")
    (first,) = load_tiles([file], TABLE)
    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("a file was opened"))
    (again,) = load_tiles([file], TABLE)
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(first.image))
    np.testing.assert_array_equal(np.asarray(again.labels), np.asarray(first.labels))
    np.testing.assert_array_equal(again.band_sums, first.band_sums)


def test_a_changed_file_is_decoded_again_and_its_partner_is_not(tmp_path, decoded):
    file = pair(tmp_path / "data")
    load_tiles([file], TABLE)
    stat = file.image.stat()
    pair(tmp_path / "data", seed=9)
    os.utime(file.mask, ns=(stat.st_atime_ns, file.mask.stat().st_mtime_ns + 10**9))
    os.utime(file.image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    decoded.clear()
    (tile,) = load_tiles([file], TABLE)
    assert sorted(decoded) == ["x.png", "x_mask.png"]
    np.testing.assert_array_equal(np.asarray(tile.image), pixels(file.image))
    decoded.clear()
    os.utime(file.mask, ns=(stat.st_atime_ns, stat.st_mtime_ns + 2 * 10**9))
    load_tiles([file], TABLE)
    assert decoded == ["x_mask.png"]


def test_a_file_of_another_size_but_the_same_time_is_decoded_again(tmp_path, decoded):
    file = pair(tmp_path / "data")
    load_tiles([file], TABLE)
    stat = file.image.stat()
    Image.new("RGB", (30, 20)).save(file.image)
    os.utime(file.image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    decoded.clear()
    (tile,) = load_tiles([file], TABLE)
    assert decoded == ["x.png"]
    assert not np.asarray(tile.image).any()


def test_files_of_the_same_name_size_and_time_in_two_folders_are_told_apart(tmp_path):
    files = []
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 4), (value, value, value)).save(tmp_path / name / "x.bmp.png", compress_level=0)
        os.utime(tmp_path / name / "x.bmp.png", ns=(10**18, 10**18))
        files.append(TileFile(name, tmp_path / name / "x.bmp.png", None))
    assert files[0].image.stat().st_size == files[1].image.stat().st_size
    assert [int(tile.image[0, 0, 0]) for tile in load_tiles(files, TABLE)] == [1, 2]


def test_another_class_table_decodes_masks_alone_anew(tmp_path, decoded):
    file = pair(tmp_path / "data")
    (first,) = load_tiles([file], TABLE)
    decoded.clear()
    (second,) = load_tiles([file], SWAPPED)
    assert decoded == ["x_mask.png"]
    known = np.asarray(first.labels) < 2
    np.testing.assert_array_equal(np.asarray(second.labels)[known], 1 - np.asarray(first.labels)[known])


def test_strips_together_are_the_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    array = rng.random((2, 67, 31)).astype(np.float32)
    array[0, 40:50] = np.nan
    truth = rng.integers(0, 3, (67, 31)).astype(np.uint8)
    Image.fromarray(truth).save(tmp_path / "m.png")
    file = TileFile("x", tiff(tmp_path / "x.tif", array), tmp_path / "m.png")
    heights = []

    def small(info):
        for window, image, valid in raster.read_strips(info, limit_bytes=31 * 8 * 9):
            heights.append(window[2])
            yield window, image, valid

    monkeypatch.setattr(cache, "read_strips", small)
    (tile,) = load_tiles([file], TABLE, workers=1)
    assert len(heights) > 8
    np.testing.assert_array_equal(np.asarray(tile.image), array)
    np.testing.assert_array_equal(np.asarray(tile.valid), ~np.isnan(array[0]))
    np.testing.assert_array_equal(np.asarray(tile.labels), np.array([255, 0, 1], np.uint8)[truth])
    real = array[:, ~np.isnan(array[0])].astype(np.float64)
    np.testing.assert_allclose(tile.band_sums, [[real.shape[1]] * 2, real.sum(1), (real**2).sum(1)], rtol=1e-12)


def test_a_large_scene_is_decoded_in_bounded_memory(tmp_path, monkeypatch):
    side, limit = 3000, 2 << 20
    profile = {"count": 3, "height": side, "width": side, "dtype": "uint8", "compress": "deflate", "tiled": True}
    profile |= {"transform": rasterio.Affine(2, 0, 9, 0, -2, 9), "sparse_ok": True}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", **profile) as file:
        file.write(np.full((3, 256, 256), 7, np.uint8), window=((0, 256), (0, 256)))
    monkeypatch.setattr(cache, "read_strips", partial(raster.read_strips, limit_bytes=limit))
    tracemalloc.start()
    (tile,) = load_tiles([TileFile("x", tmp_path / "scene.tif", None)], TABLE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tile.size == (side, side)
    assert tile.band_sums.tolist() == [[side**2] * 3, [7 * 256**2] * 3, [49 * 256**2] * 3]
    assert peak < 6 * limit  # the scene is 27 MB


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_every_dtype_keeps_its_values_and_nodata_is_not_real(tmp_path, dtype):
    array = (np.random.default_rng(0).random((5, 11, 13)) * 200 + 1).astype(dtype)
    array[:, 3:5, 2:] = 0
    mask = np.full((1, 11, 13), 2, np.uint8)
    mask[0, 8] = 1
    file = TileFile("x", tiff(tmp_path / "x.tif", array, nodata=0), tiff(tmp_path / "m.tif", mask, nodata=1))
    (tile,) = load_tiles([file], TABLE)
    assert (tile.image.dtype, tile.image.shape) == (dtype, (5, 11, 13))
    np.testing.assert_array_equal(np.asarray(tile.image), array)
    expected = np.ones((11, 13), bool)
    expected[3:5, 2:] = False
    np.testing.assert_array_equal(np.asarray(tile.valid), expected)
    np.testing.assert_array_equal(np.asarray(tile.labels), np.where(mask[0] == 2, 1, 255))
    assert tile.class_pixels == (0, (expected & (mask[0] == 2)).sum())
    assert tile.band_sums[0].tolist() == [expected.sum()] * 5


def test_a_tile_without_one_real_pixel_has_empty_sums(tmp_path):
    (tile,) = load_tiles([TileFile("x", tiff(tmp_path / "x.tif", np.full((2, 4, 5), np.nan, np.float32)), None)], TABLE)
    assert not np.asarray(tile.valid).any()
    assert not tile.band_sums.any()


def test_another_size_of_the_mask_is_refused_cropped_or_skipped(tmp_path):
    odd, good = pair(tmp_path / "data", "odd", (20, 30), (21, 28)), pair(tmp_path / "data", "good")
    with pytest.raises(DataError, match="--mismatch crop or --mismatch skip") as caught:
        load_tiles([odd, good], TABLE)
    assert f"{odd.mask} is 21 x 28 px, its image {odd.image} is 20 x 30 px" in str(caught.value)
    assert [tile.id for tile in load_tiles([odd, good], TABLE, mismatch="skip")] == ["good"]
    cropped, whole = load_tiles([odd, good], TABLE, mismatch="crop")
    assert (cropped.size, whole.size) == ((20, 28), (20, 30))
    np.testing.assert_array_equal(np.asarray(cropped.image), pixels(odd.image)[:, :20, :28])
    np.testing.assert_array_equal(np.asarray(cropped.labels), labels_of(odd.mask)[:20, :28])
    np.testing.assert_array_equal(cropped.image[:, 15:99, 25:99], pixels(odd.image)[:, 15:20, 25:28])


def test_a_missing_or_damaged_file_is_refused_by_name(tmp_path, folder):
    file = pair(tmp_path / "data")
    content = file.mask.read_bytes()
    file.mask.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x_mask\.png cannot be read"):
        load_tiles([file], TABLE)
    file.image.unlink()
    with pytest.raises(DataError, match=r"x\.png cannot be read: No such file"):
        load_tiles([file], TABLE)
    assert drafts(folder) == []


def test_more_tiles_than_files_may_be_open(tmp_path):
    resource = pytest.importorskip("resource")
    files = [pair(tmp_path / "data", str(i), (4, 5), seed=i) for i in range(150)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    # Enough for the maps that the cache keeps, and for decoding; a map for each array would need 300.
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 120, hard))
    try:
        tiles = load_tiles(files, TABLE)
        held = [(np.asarray(tile.image), np.asarray(tile.labels)) for tile in tiles]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(held) == 150
    np.testing.assert_array_equal(held[149][0], pixels(files[149].image))


def test_what_a_tile_gives_cannot_be_written_to(tmp_path):
    (tile,) = load_tiles([pair(tmp_path / "data")], TABLE)
    with pytest.raises(ValueError, match="read-only"):
        tile.image[:, :3, :3][0, 0, 0] = 1


def test_progress_counts_every_tile(tmp_path):
    calls = []
    load_tiles([pair(tmp_path / "data", str(i)) for i in range(3)], TABLE, on_progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_the_cache_is_in_the_home_folder_unless_told_otherwise(folder, monkeypatch):
    assert cache_folder() == folder
    monkeypatch.delenv("S4AUG_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "s4aug"


def test_files_that_cannot_be_decoded_are_left_out_and_named_on_demand(tmp_path):
    files = [pair(tmp_path / "data", name) for name in ("a", "b", "c", "d")]
    files[0].image.write_bytes(b"no picture")
    files[1].mask.write_bytes(files[1].mask.read_bytes()[:60])
    files[3].image.unlink()
    with pytest.raises(UnreadableError, match=r"a\.png cannot be read.*or leave it out with data.unreadable=skip"):
        load_tiles(files, TABLE)
    told = {}
    tiles = load_tiles(files, TABLE, on_unreadable=told.__setitem__)
    assert [tile.id for tile in tiles] == ["c"]
    assert list(told) == [str(files[0].image), str(files[1].mask), str(files[3].image)]
    assert all(name in why and "data.unreadable" not in why for name, why in told.items())
