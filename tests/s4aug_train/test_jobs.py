import numpy as np
import pytest
import rasterio
from PIL import Image

from s4aug_train.data.geomap import MADE_BY
from s4aug_train.errors import DataError
from s4aug_train.jobs import jobs_of


@pytest.fixture
def scenes(tmp_path):
    for name in ("in/a.png", "in/deep/b.jpg", "pairs/train/7_sat.jpg", "pairs/train/7_mask.png", "other/a.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return tmp_path


def names(jobs):
    return [(job.source.name, job.out.name) for job in jobs]


def test_files_folders_and_globs_are_found_each_once(scenes):
    jobs = jobs_of(
        [scenes / "in", f"{scenes}/in/deep/*.jpg", scenes / "in" / "a.png", scenes / "pairs"], scenes / "out"
    )
    assert sorted(names(jobs)) == [("7_sat.jpg", "7_sat.tif"), ("a.png", "a.tif"), ("b.jpg", "b.tif")]
    assert {job.out.parent for job in jobs} == {scenes / "out"}


def test_a_missing_file_is_a_job_so_that_the_others_are_done(scenes):
    assert names(jobs_of([scenes / "gone.tif", scenes / "in" / "a.png"], scenes / "out"))[0][0] == "gone.tif"


def test_two_rasters_of_one_map_are_refused(scenes):
    with pytest.raises(DataError, match=r"in/a\.png and .*other/a\.png would both become .*out/a\.tif"):
        jobs_of([scenes / "in", scenes / "other"], scenes / "out")


def test_a_map_never_replaces_a_raster(scenes):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(scenes / "in" / "t.tif")
    with pytest.raises(DataError, match=r"would replace the raster .*in/t\.tif"):
        jobs_of([scenes / "in" / "t.tif"], scenes / "in" / ".." / "in")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(scenes / "in" / "t_confidence.tif")
    with pytest.raises(DataError, match="would replace the raster|would both become"):
        jobs_of([scenes / "in" / "t.tif", scenes / "in" / "t_confidence.tif"], scenes / "in")


def test_maps_of_an_earlier_time_are_no_rasters_wherever_they_lie(scenes):
    shape = {"driver": "GTiff", "count": 1, "height": 4, "width": 4, "dtype": "uint8", "crs": "EPSG:4326"}
    for name in ("maps_a/a.tif", "maps_a/a_confidence.tif"):
        (scenes / "in" / name).parent.mkdir(exist_ok=True)
        with rasterio.open(scenes / "in" / name, "w", **shape, transform=rasterio.Affine.translation(1, 2)) as dataset:
            dataset.write(np.zeros((1, 4, 4), np.uint8))
            dataset.update_tags(**{MADE_BY: "{}"})
    for given in (scenes / "in", f"{scenes}/in/**/*.*"):
        assert sorted(names(jobs_of([given], scenes / "out"))) == [("a.png", "a.tif"), ("b.jpg", "b.tif")]
    assert names(jobs_of([scenes / "in" / "maps_a" / "a.tif"], scenes / "out")) == [("a.tif", "a.tif")]


def test_a_map_beside_its_picture_is_no_raster_of_the_same_name(scenes):
    shape = {"driver": "GTiff", "count": 1, "height": 4, "width": 4, "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(scenes / "in" / "a.tif", "w", **shape, transform=rasterio.Affine.translation(1, 2)) as dataset:
        dataset.write(np.zeros((1, 4, 4), np.uint8))
        dataset.update_tags(**{MADE_BY: "{}"})
    assert sorted(names(jobs_of([scenes / "in"], scenes / "in"))) == [("a.png", "a.tif"), ("b.jpg", "b.tif")]


@pytest.mark.parametrize("given", ["empty", "*.nothing"])
def test_a_folder_or_glob_without_rasters_is_told(scenes, given):
    (scenes / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        jobs_of([scenes / given], scenes / "out")
    with pytest.raises(DataError, match="no raster is named"):
        jobs_of([], scenes / "out")
