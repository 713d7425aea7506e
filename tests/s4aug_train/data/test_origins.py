"""Files whose pixels come from other files are read again when those are changed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4aug_train.data.cache import load_tiles
from s4aug_train.data.layouts import TileFile
from s4aug_train.data.origins import fingerprint, parts_of
from s4aug_train.errors import UnreadableError
from tests.s4aug_train.data.cache_cases import TABLE

BAND = """<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename relativeToVRT="1">source.png</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""


def save(path, value):
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path, format="PNG" if path.suffix == ".png" else "TIFF")


@pytest.fixture
def mosaic(tmp_path):
    """A virtual raster of `source.png`, with a mask beside it."""
    save(tmp_path / "source.png", 3)
    save(tmp_path / "mosaic.vrt.msk", 255)
    (tmp_path / "mosaic.vrt").write_text(BAND)
    return tmp_path / "mosaic.vrt"


def later(path):
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def test_a_virtual_raster_is_decoded_again_when_what_it_is_made_of_has_changed(mosaic, tmp_path, monkeypatch):
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
    file = TileFile("x", mosaic, None)
    assert [int(load_tiles([file], TABLE)[0].image[0, 0, 0]) for _ in range(2)] == [3, 3]
    save(tmp_path / "source.png", 7)
    later(tmp_path / "source.png")
    assert int(load_tiles([file], TABLE)[0].image[0, 0, 0]) == 7


@pytest.mark.parametrize("changed", ["mosaic.vrt", "source.png", "mosaic.vrt.msk", "source.png.aux.xml"])
def test_every_file_that_pixels_come_from_counts(mosaic, changed):
    before = fingerprint(mosaic)
    assert fingerprint(mosaic) == before
    path = mosaic.with_name(changed)
    if path.exists():
        later(path)
    else:
        path.write_text("<PAMDataset></PAMDataset>")
    assert fingerprint(mosaic) != before


def test_virtual_rasters_of_virtual_rasters_count_all_the_way_and_paths_may_be_relative(mosaic, monkeypatch):
    outer = mosaic.with_name("outer.vrt")
    outer.write_text(BAND.replace("source.png", "mosaic.vrt"))
    assert {path.name for path in parts_of(outer)} >= {"mosaic.vrt", "source.png"}
    before = fingerprint(outer)
    monkeypatch.chdir(outer.parent)
    assert fingerprint(Path("outer.vrt")) == before
    later(mosaic.with_name("source.png"))
    assert fingerprint(outer) != before


def test_of_other_files_only_what_lies_beside_them_counts(mosaic):
    source = mosaic.with_name("source.png")
    assert parts_of(source) == []
    before = fingerprint(source)
    later(mosaic)
    assert fingerprint(source) == before
    source.with_name("source.png.aux.xml").write_text("<PAMDataset></PAMDataset>")
    assert fingerprint(source) != before


def test_a_virtual_raster_that_is_none_is_unreadable_and_one_without_its_parts_has_none(mosaic):
    mosaic.with_name("source.png").unlink()
    assert all(path.suffix == ".msk" for path in parts_of(mosaic))
    mosaic.write_text("<VRTDataset")
    with pytest.raises(UnreadableError):
        fingerprint(mosaic)
