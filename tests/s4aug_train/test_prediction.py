import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.shutil import copy

from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.prediction import MapRequest
from s4aug_train.windows import Windows
from tests.s4aug_train.prediction_cases import (
    PLACE,
    Pointwise,
    expected_probabilities,
    image_of,
    make,
    segmenter,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of what tests write


def test_maps_hold_what_the_network_says_of_each_pixel_on_the_rasters_grid(tmp_path):
    image = image_of()
    image[:, 30:60, 100:] = 0
    write(tmp_path / "scene.tif", image, nodata=0, **PLACE)
    [made] = make([tmp_path / "scene.tif"], tmp_path / "out")
    assert (made.skipped, made.failure) == (False, "")
    real, shares = image[0] != 0, expected_probabilities(image)
    with rasterio.open(made.job.out) as labels:
        assert (labels.read(1) == np.where(real, shares.argmax(0), 255)).all()
        assert (labels.crs, labels.shape) == ("EPSG:32652", (150, 210))
        assert labels.transform.almost_equals(PLACE["transform"])
        assert labels.colormap(1)[2] == (20, 40, 5, 255)
        assert labels.tags()["CLASS_3"] == "d"
    with rasterio.open(made.job.probabilities) as dataset:
        seen = dataset.read()
        assert (seen[:, ~real] == 255).all()
        assert np.abs(seen / 250 - shares)[:, real].max() <= 0.0021
        assert dataset.descriptions == tuple("abcd")
    with rasterio.open(made.job.confidence) as dataset:
        confidence, entropy = dataset.read() / 250
        assert np.abs(confidence - shares.max(0))[real].max() <= 0.0021
        assert np.abs(entropy + (shares * np.log(shares)).sum(0) / np.log(4))[real].max() <= 0.0021


def test_a_raster_without_place_and_a_picture_give_maps_without_place(tmp_path):
    from PIL import Image

    image = image_of()
    write(tmp_path / "plain.tif", image)
    Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "picture.png")
    for made in make([tmp_path / "plain.tif", tmp_path / "picture.png"], tmp_path / "out"):
        with rasterio.open(made.job.out) as labels:
            assert labels.crs is None
            assert labels.transform.is_identity
            assert (labels.read(1) == expected_probabilities(image).argmax(0)).all()


def test_a_mosaic_is_predicted_without_a_trace_of_its_parts(tmp_path):
    image = image_of(100, 260)
    west, north = rasterio.Affine(10, 0, 5e5, 0, -10, 4e6), {"crs": "EPSG:32652"}
    write(tmp_path / "a.tif", image[:, :, :130], transform=west, **north)
    write(tmp_path / "b.tif", image[:, :, 130:], transform=west @ rasterio.Affine.translation(130, 0), **north)
    source = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename>'
            f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="130" ySize="100"/>'
            f'<DstRect xOff="{left}" yOff="0" xSize="130" ySize="100"/></SimpleSource>'
            for name, left in (("a", 0), ("b", 130))
        )
        + "</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "whole.vrt").write_text(
        '<VRTDataset rasterXSize="260" rasterYSize="100"><SRS>EPSG:32652</SRS>'
        f"<GeoTransform>500000,10,0,4000000,0,-10</GeoTransform>{source}</VRTDataset>"
    )
    [made] = make([tmp_path / "whole.vrt"], tmp_path / "out")
    with rasterio.open(made.job.out) as labels:
        assert (labels.read(1) == expected_probabilities(image).argmax(0)).all()
        assert labels.transform == west


def test_a_network_that_gives_nan_is_told(tmp_path):
    class Lost(torch.nn.Module):
        def forward(self, images):
            return images[:, :1].expand(-1, 4, -1, -1) * float("nan")

    [made] = make([write(tmp_path / "a.tif", image_of())], tmp_path / "out", who=replace(segmenter(), network=Lost()))
    assert "gives NaN" in made.failure
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("full", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_full_memory_is_a_failure_of_one_raster(tmp_path, full):
    class Large(Pointwise):
        def forward(self, images):
            if images.mean() > 200:
                raise full
            return super().forward(images)

    white = write(tmp_path / "white.tif", np.full((3, 70, 70), 255, np.uint8))
    dark = write(tmp_path / "dark.tif", image_of())
    made = make([white, dark], tmp_path / "out", who=replace(segmenter(), network=Large().eval()))
    assert "memory is full; use a smaller --window or --batch" in made[0].failure
    assert made[1].failure == ""


def test_a_system_that_a_geotiff_cannot_tell_is_told(tmp_path):
    for name, system, lost in (("a", "+proj=eqearth +lon_0=30", True), ("b", "EPSG:3035", False)):
        source = write(tmp_path / f"{name}.tif", image_of())
        copy(source, tmp_path / f"{name}.vrt", driver="VRT")
        with rasterio.open(tmp_path / f"{name}.vrt", "r+") as dataset:
            dataset.crs, dataset.transform = system, PLACE["transform"]
        [made] = make([tmp_path / f"{name}.vrt"], tmp_path / "out")
        assert (made.failure, made.system_lost) == ("", lost)
        with rasterio.open(made.job.out) as labels:
            assert (labels.crs is None) == lost


def test_a_raster_that_fails_is_told_in_one_line_and_the_others_are_done(tmp_path):
    image = image_of()
    good = write(tmp_path / "good.tif", image)
    cut = write(tmp_path / "cut.tif", image)
    cut.write_bytes(cut.read_bytes()[:30_000])
    (tmp_path / "text.tif").write_text("no raster")
    (tmp_path / "empty.tif").write_bytes(b"")
    write(tmp_path / "nothing.tif", np.zeros((3, 80, 90), np.uint8), nodata=0)
    write(tmp_path / "four.tif", np.concatenate([image, image[:1]]))
    write(tmp_path / "sixteen.tif", np.ones((3, 80, 90), np.uint16))
    told = {
        "cut": "cannot be read: it is damaged",
        "text": "cannot be read",
        "empty": "is empty (0 bytes)",
        "nothing": "holds no real pixel: all are nodata",
        "four": "choose them with --bands",
        "sixteen": "--scale",
        "gone": "does not exist",
    }
    paths = [*(tmp_path / f"{name}.tif" for name in told), good]
    made = make(paths, tmp_path / "out")
    for name, each in zip(told, made, strict=False):
        assert told[name] in each.failure
        assert f"{name}.tif" in each.failure
        assert "\n" not in each.failure
        assert "data.unreadable" not in each.failure
    assert made[-1].failure == ""
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"good.tif", "good_confidence.tif", "good_probabilities.tif"}


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, file_limit):
    source = write(tmp_path / "a.tif", image_of(600, 700))
    with file_limit(30_000):
        [made] = make([source], tmp_path / "out", MapRequest(Windows(256, 192, smooth=True)))
    assert "cannot write" in made.failure
    assert "free some space" in made.failure
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser writes anywhere")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    source = write(tmp_path / "a.tif", image_of())
    (tmp_path / "out").mkdir(mode=0o500)
    assert "cannot write" in make([source], tmp_path / "out")[0].failure


def test_a_folder_that_is_a_file_is_told(tmp_path):
    source = write(tmp_path / "a.tif", image_of())
    (tmp_path / "out").write_text("mine")
    assert "cannot write" in make([source], tmp_path / "out")[0].failure
    assert (tmp_path / "out").read_text() == "mine"


def test_one_class_has_maps_too(tmp_path):
    class One(torch.nn.Module):
        def forward(self, images):
            return images[:, :1]

    alone = replace(segmenter(classes=ClassTable((ClassEntry("all", (1, 2, 3)),))), network=One())
    [made] = make([write(tmp_path / "a.tif", image_of())], tmp_path / "out", who=alone)
    with rasterio.open(made.job.confidence) as dataset:
        assert np.unique(dataset.read(1)).tolist() == [250]
        assert np.unique(dataset.read(2)).tolist() == [0]


def test_progress_counts_windows_to_the_last_whatever_fails(tmp_path):
    paths = [write(tmp_path / f"{i}.tif", image_of(150, 150, i)) for i in range(2)]
    (tmp_path / "bad.tif").write_text("no raster")
    seen = []
    make([paths[0], tmp_path / "bad.tif", paths[1]], tmp_path / "out", on_progress=lambda *each: seen.append(each))
    done = [done for done, _ in seen]
    assert {total for _, total in seen} == {9 + 9}
    assert done == sorted(done)
    assert done[-1] == 18
    seen.clear()
    # One is skipped, one has been made otherwise, and one ends in the middle: what is left of it is no work any more.
    cut = write(tmp_path / "cut.tif", image_of(150, 150), tiled=True, blockxsize=64, blockysize=64)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    paths[1].rename(tmp_path / "moved.tif")
    more = write(tmp_path / "more.tif", image_of(150, 150, 5))
    make([paths[0], cut, tmp_path / "moved.tif", more], tmp_path / "out", on_progress=lambda *each: seen.append(each))
    assert seen[0][1] == 3 * 9
    assert 2 * 9 <= seen[-1][1] < 3 * 9
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_pixels_are_counted_by_class_also_of_maps_that_were_there(tmp_path):
    image = image_of()
    image[:, :40] = 0
    source = write(tmp_path / "a.tif", image, nodata=0, **PLACE)
    plain = write(tmp_path / "plain.tif", image, nodata=0)
    half = write(tmp_path / "half.tif", image, nodata=0, crs="EPSG:32652")
    first, again = (make([source, plain, half], tmp_path / "out") for _ in range(2))
    for made in (*first, *again):
        with rasterio.open(made.job.out) as labels:
            values = labels.read(1)
        assert made.pixels == {name: (values == label).sum() for label, name in enumerate("abcd")}
        assert sum(made.pixels.values()) == image[0].size - 40 * 210
    assert [made.placed for made in first] == [True, False, False]
    assert [made.skipped for made in again] == [True] * 3


# A network of one layer on rasters most of which is nothing; prints the most memory that was resident after each.
WIDE = """
import resource, sys
from pathlib import Path
import rasterio
sys.path.insert(0, {folder!r})
from prediction_cases import segmenter
from s4aug_train.jobs import jobs_of
from s4aug_train.prediction import MapRequest, predict_maps
from s4aug_train.windows import Windows

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

seen = [peak()]
for number, (height, width) in enumerate({sizes!r}):
    path = Path({path!r}) / f"{{number}}.tif"
    size = dict(height=height, width=width, count=3, dtype="uint8")
    with rasterio.open(path, "w", driver="GTiff", tiled=True, sparse_ok=True, compress="deflate", **size):
        pass
    [made] = predict_maps(segmenter(), jobs_of([path], path.parent / "out"), MapRequest(Windows(512, 384, smooth=True)))
    assert made.failure == "", made.failure
    seen.append(peak())
print(*seen)
"""


def memory_of(folder, *sizes):
    """MiB resident at most: before, and after each raster."""
    code = WIDE.format(folder=os.path.dirname(__file__), path=str(folder), sizes=sizes)
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return [float(number) for number in told.stdout.split()]


def test_memory_does_not_grow_with_the_height_of_a_raster(tmp_path):
    before, low, high = memory_of(tmp_path, (3072, 2048), (9216, 2048))
    print(f"{before:.0f} MiB before, {low:.0f} MiB for 3072 rows, {high:.0f} MiB for 9216")
    # GDAL's cache of 64 MiB may fill up; the probabilities of the 6144 rows more would be 201 MB.
    assert high - low < 90


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_raster_of_20000_px_a_side_takes_less_than_2_gb(tmp_path):
    before, peak = memory_of(tmp_path, (20000, 20000))
    print(f"{before:.0f} MiB before, {peak:.0f} MiB at most")
    assert peak < 2000
