import json

import numpy as np
import pytest
import rasterio

from s4aug_train.data.geomap import NODATA, PIXELS, MapKind, read_pixel_counts, read_tags, written_map
from s4aug_train.errors import S4AugTrainError

COLORS = [(0, 255, 255), (255, 255, 0), (1, 2, 3)]
TURNED = rasterio.Affine.translation(5e5, 4e6) @ rasterio.Affine.rotation(20) @ rasterio.Affine.scale(10, -10)
PLACE = {"transform": TURNED, "crs": "EPSG:32652"}


def labels_of(height=700, width=1100):
    labels = np.random.default_rng(0).integers(0, 3, (1, height, width)).astype(np.uint8)
    labels[:, 40:300, 500:] = NODATA
    return labels


def write(path, pixels, kind, place=PLACE, rows=97):
    with written_map(path, pixels.shape[1:], place, kind) as writer:
        for top in range(0, pixels.shape[1], rows):
            for left in (600, 0):
                width = 600 if left == 0 else pixels.shape[2] - 600
                writer.write(pixels[:, top : top + rows, left : left + width], top, left)
    return path


def test_a_map_of_labels_is_a_cog_with_place_colours_and_tags(tmp_path):
    cog_validate = pytest.importorskip("rio_cogeo", reason="rio-cogeo judges what a COG is").cog_validate
    labels = labels_of()
    path = write(tmp_path / "new" / "a.tif", labels, MapKind(["class"], COLORS, tags={"CLASS_0": "urban <&>"}))
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert (dataset.read() == labels).all()
        assert (dataset.crs, dataset.nodata, dataset.dtypes) == ("EPSG:32652", 255, ("uint8",))
        assert dataset.transform.almost_equals(TURNED)
        assert [dataset.colormap(1)[i] for i in (0, 1, 2, 255)] == [*((*c, 255) for c in COLORS), (0, 0, 0, 0)]
        # TIFF has 256 entries, whatever is needed: the others are what GDAL fills up with.
        assert {dataset.colormap(1)[i] for i in range(3, 255)} == {(0, 0, 0, 255)}
        assert json.loads(dataset.tags()[PIXELS]) == [(labels == label).sum() for label in range(3)]
        assert dataset.overviews(1) == [2, 4]
        # Overviews of labels hold labels, not means of them.
        assert set(np.unique(dataset.read(1, out_shape=(350, 550)))) <= {0, 1, 2, 255}
        assert (dataset.read_masks(1) == 255 * (labels[0] != NODATA)).all()
    assert read_tags(path)["CLASS_0"] == "urban <&>"
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("tag", ["", "{}", "[1, 2]", "[1, 2, -3]", "[1, 2, 3.5]", "[true, 1, 2]", "[" * 100_000])
def test_a_map_that_does_not_say_its_pixels_has_none(tmp_path, tag):
    labels = labels_of(60, 700)
    path = write(tmp_path / "a.tif", labels, MapKind(["class"], COLORS))
    assert sum(read_pixel_counts(path, 3)) == (labels != NODATA).sum()
    assert read_pixel_counts(path, 2) == []
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(**{PIXELS: tag})
    assert read_pixel_counts(path, 3) == []


def test_a_map_of_shares_has_a_band_each_and_says_what_a_step_is(tmp_path):
    shares = np.random.default_rng(0).integers(0, 251, (4, 300, 700)).astype(np.uint8)
    path = write(tmp_path / "a.tif", shares, MapKind(list("abcd"), unit=1 / 250), place={})
    with rasterio.open(path) as dataset:
        assert (dataset.read() == shares).all()
        assert dataset.descriptions == tuple("abcd")
        assert dataset.scales == (1 / 250,) * 4
        assert dataset.crs is None
        assert dataset.transform.is_identity


def test_the_same_map_is_the_same_bytes(tmp_path):
    first, second = (
        write(tmp_path / name, labels_of(), MapKind(["class"], COLORS), rows=rows)
        for name, rows in (("a.tif", 97), ("b.tif", 97))
    )
    assert first.read_bytes() == second.read_bytes()


def test_an_error_while_writing_leaves_nothing_and_the_older_map_as_it_was(tmp_path):
    path = write(tmp_path / "a.tif", labels_of(), MapKind(["class"], COLORS))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="mine"), written_map(path, (9, 9), {}, MapKind(["class"], COLORS)):
        raise ValueError("mine")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("size", [1000, 100_000, 900_000, 1_500_000])
def test_a_full_disk_leaves_no_map(tmp_path, file_limit, size):
    noise = np.random.default_rng(0).integers(0, 251, (4, 700, 1100)).astype(np.uint8)
    with file_limit(size), pytest.raises(S4AugTrainError, match=r"cannot write .*a\.tif: .*; free some space"):
        write(tmp_path / "a.tif", noise, MapKind(list("abcd"), unit=1 / 250))
    assert list(tmp_path.iterdir()) == []


def test_a_map_with_pixels_that_were_lost_is_not_kept(tmp_path):
    kind = MapKind(["class"], COLORS)
    with (
        pytest.raises(S4AugTrainError, match="not what can be read back"),
        written_map(tmp_path / "a.tif", (100, 100), {}, kind) as writer,
    ):
        writer.write(np.zeros((1, 50, 100), np.uint8), 0, 0)
    assert list(tmp_path.iterdir()) == []
