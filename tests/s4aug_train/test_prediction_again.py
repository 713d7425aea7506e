"""Maps that are there already: taken, refused, made again."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.shutil import copy

from s4aug_train.data.geomap import MADE_BY
from s4aug_train.data.scene import Reading
from tests.s4aug_train.prediction_cases import PLACE, SMALL, image_of, make, segmenter, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of what tests write


def test_what_is_finished_is_skipped_and_never_taken_for_something_else(tmp_path):
    source = write(tmp_path / "a.tif", image_of())
    [first] = make([source], tmp_path / "out")
    before = first.job.out.read_bytes()
    assert [made.skipped for made in make([source], tmp_path / "out")] == [True]
    # Fewer maps than there are is finished; more is not, and the others stay as they were.
    assert make([source], tmp_path / "out", replace(SMALL, probabilities=False))[0].skipped
    first.job.confidence.unlink()
    assert not make([source], tmp_path / "out")[0].skipped
    assert first.job.confidence.exists()
    assert first.job.out.read_bytes() == before
    others = {
        "made with other weights;": {"who": segmenter("4567")},
        "made with other nodata;": {"request": replace(SMALL, reading=Reading(nodata=7))},
    }
    for told, change in others.items():
        [made] = make([source], tmp_path / "out", **change)
        assert told in made.failure
        assert "--overwrite" in made.failure
        assert first.job.out.read_bytes() == before
    assert make([source], tmp_path / "out", who=segmenter("4567"), overwrite=True)[0].failure == ""
    with rasterio.open(first.job.out) as labels:
        assert '"4567"' in labels.tags()[MADE_BY]


def test_naming_the_bands_that_are_read_anyway_makes_no_other_map(tmp_path):
    source = write(tmp_path / "a.tif", image_of())
    make([source], tmp_path / "out")
    same, other = (replace(SMALL, reading=Reading(bands=bands)) for bands in ((1, 2, 3), (3, 2, 1)))
    assert make([source], tmp_path / "out", same)[0].skipped
    assert "was made with other bands" in make([source], tmp_path / "out", other)[0].failure
    make([source], tmp_path / "other", other)
    assert "was made with other bands" in make([source], tmp_path / "other")[0].failure


def test_maps_of_two_networks_are_never_taken_for_one(tmp_path):
    source = write(tmp_path / "a.tif", image_of())
    [first] = make([source], tmp_path / "out")
    alone = replace(SMALL, confidence=False, probabilities=False)
    assert make([source], tmp_path / "out", alone, segmenter("4567"), overwrite=True)[0].failure == ""
    [made] = make([source], tmp_path / "out", SMALL, segmenter("4567"))
    assert f"{first.job.confidence} was made with other weights" in made.failure


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["a.tif", "a_confidence.tif"])
def test_a_file_that_is_no_map_of_ours_is_never_replaced(tmp_path, name, overwrite):
    source = write(tmp_path / "a.tif", image_of())
    mine = tmp_path / "out" / name
    mine.parent.mkdir()
    for content in (b"my notes", write(tmp_path / "b.tif", image_of(20, 30)).read_bytes()):
        mine.write_bytes(content)
        [made] = make([source], tmp_path / "out", overwrite=overwrite)
        assert f"{mine} is there and is no map of s4aug-train predict" in made.failure
        assert mine.read_bytes() == content


def test_maps_among_their_rasters_are_no_rasters_the_next_time(tmp_path):
    write(tmp_path / "a.tif", image_of())
    for skipped in (False, True):
        [made] = make([tmp_path], tmp_path / "maps")
        assert (made.skipped, made.failure) == (skipped, "")


@pytest.mark.parametrize("tag", ["", "no JSON", "[]", "[" * 100_000, '{"weights": 1}'])
def test_a_map_that_says_nonsense_of_itself_is_told_in_one_line(tmp_path, tag):
    source = write(tmp_path / "a.tif", image_of())
    make([source], tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "a.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(**{MADE_BY: tag})
    [made] = make([source], tmp_path / "out")
    assert "was made with other weights" in made.failure or "is no map of" in made.failure


@pytest.mark.parametrize("virtual", [False, True])
def test_a_map_older_than_its_raster_or_than_a_part_of_a_virtual_one_is_not_taken(tmp_path, virtual):
    part = source = write(tmp_path / "a.tif", image_of())
    if virtual:
        source = tmp_path / "mosaic.vrt"
        copy(part, source, driver="VRT")
    [made] = make([source], tmp_path / "out")
    later = time.time() + 100
    os.utime(part, (later, later))
    assert f"is older than its raster {part}" in make([source], tmp_path / "out")[0].failure
    assert made.job.out.exists()


def test_a_map_of_another_raster_of_the_same_name_is_not_taken(tmp_path):
    first = write(tmp_path / "a.tif", image_of(), **PLACE)
    [made] = make([first], tmp_path / "out")
    before = made.job.out.read_bytes()
    others = {
        "pixels": lambda path: write(path, image_of(seed=1), **PLACE),
        "place": lambda path: write(path, image_of(), **{**PLACE, "crs": "EPSG:32653"}),
        "nodata": lambda path: write(path, image_of(), nodata=3, **PLACE),
    }
    for name, write_other in others.items():
        (tmp_path / name).mkdir()
        other = write_other(tmp_path / name / "a.tif")
        os.utime(other, (1e9, 1e9))  # older than the map, as a file that was copied with its time
        [again] = make([other], tmp_path / "out")
        assert f"{made.job.out} was made of another raster than {other}" in again.failure, name
        assert made.job.out.read_bytes() == before
    (tmp_path / "copy").mkdir()
    moved = tmp_path / "copy" / "a.tif"
    moved.write_bytes(first.read_bytes())
    os.utime(moved, (1e9, 1e9))
    assert make([moved], tmp_path / "out")[0].skipped
    moved.unlink()
    assert make([moved], tmp_path / "out")[0].skipped


def test_what_is_laid_beside_a_raster_later_makes_another_map(tmp_path):
    source = tmp_path / "a.png"
    Image.fromarray(image_of().transpose(1, 2, 0)).save(source)
    assert make([source], tmp_path / "out")[0].failure == ""
    (tmp_path / "a.pgw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    assert "was made of another raster" in make([source], tmp_path / "out")[0].failure
    assert make([source], tmp_path / "out", overwrite=True)[0].failure == ""
    mask = np.full((1, 150, 210), 255, np.uint8)
    write(tmp_path / "mask.tif", mask).rename(tmp_path / "a.png.msk")
    assert "was made of another raster" in make([source], tmp_path / "out")[0].failure


def test_maps_that_an_earlier_network_left_beside_new_ones_are_told(tmp_path):
    source = write(tmp_path / "a.tif", image_of())
    [first] = make([source], tmp_path / "out")
    assert first.older == ()
    alone = replace(SMALL, confidence=False, probabilities=False)
    assert make([source], tmp_path / "out", alone, overwrite=True)[0].older == ()
    [made] = make([source], tmp_path / "out", alone, segmenter("4567"), overwrite=True)
    assert made.older == (first.job.confidence, first.job.probabilities)
