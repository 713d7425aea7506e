"""Georeferences of images and masks: where they agree, and what becomes of pairs that do not."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine

from s4aug_train.config import DataConfig
from s4aug_train.data.dataset import load_validation
from s4aug_train.data.grid import Grid
from s4aug_train.data.layouts import find_tiles
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.data.raster import read_displacement, read_grid
from s4aug_train.doctor import inspect
from s4aug_train.errors import DataError

# Files without a georeference are made here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = CRS.from_epsg(32633)
TURNED = Affine(1.5, 0.4, 400_000, 0.5, -2.5, 5_800_000)
TABLE = ClassTable((ClassEntry("a", value=0), ClassEntry("b", value=1)))


def write(path, *, crs=UTM, transform=TURNED, size=(20, 30), bands=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": bands, "height": size[0], "width": size[1]}
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(path, "w", **profile, crs=crs) as file:
        file.write(np.zeros((bands, *size), np.uint8))
    return path


def moved(columns, rows):
    """The grid, moved by so many of its px."""
    return Affine(1.5, 0.4, TURNED.c + 1.5 * columns + 0.4 * rows, 0.5, -2.5, TURNED.f + 0.5 * columns - 2.5 * rows)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, None),
        ({"transform": moved(0.4, -0.4)}, None),
        ({"transform": moved(0, 0.6)}, "its pixels lie up to 0.6 px off the image's"),
        ({"transform": moved(-3, 0)}, "its pixels lie up to 3 px off the image's"),
        # Pixels of 1.02 times the width are off by 0.6 px at the right edge alone.
        ({"transform": Affine(1.5 * 1.02, 0.4, TURNED.c, 0.5 * 1.02, -2.5, TURNED.f)}, "its pixels lie up to 0.6 px"),
        ({"crs": CRS.from_epsg(32634)}, "its coordinate system is EPSG:32634, the image's EPSG:32633"),
        ({"crs": CRS.from_wkt(UTM.to_wkt(version="WKT1_ESRI"))}, None),
        ({"crs": None}, None),
        ({"transform": None}, None),
        ({"size": (12, 30)}, None),
    ],
)
def test_a_mask_lies_elsewhere_where_a_corner_is_off_by_more_than_half_a_pixel(tmp_path, options, found):
    image, mask = write(tmp_path / "i.tif", bands=3), write(tmp_path / "m.tif", **options)
    told = read_displacement(image, mask)
    assert told == found if found is None else told.startswith(found)


@settings(max_examples=50, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1), st.floats(0.1, 5))
def test_the_distance_is_in_pixels_whatever_the_grid(columns, rows, shear, scale):
    matrix = np.array([[scale, shear, 1000], [0.3 * scale, -2 * scale, -700], [0, 0, 1]])
    shifted = matrix @ np.array([[1, 0, columns], [0, 1, rows], [0, 0, 1]])
    told = Grid((5, 7), UTM, matrix).displacement(Grid((9, 6), UTM, shifted))
    apart = max(abs(columns), abs(rows))
    if abs(apart - 0.5) > 1e-6:
        assert (told is not None) == (apart > 0.5)


def test_files_that_do_not_say_where_they_lie_have_no_grid(tmp_path):
    assert read_grid(write(tmp_path / "a.tif", crs=None)) is None
    assert read_grid(write(tmp_path / "b.tif", transform=None)) is None
    grid = read_grid(write(tmp_path / "c.tif"))
    assert grid.crs == UTM
    assert np.array_equal(grid.matrix[:2].ravel(), TURNED[:6])


@pytest.fixture
def folder(tmp_path):
    """Three pairs, of which the second's mask lies elsewhere."""
    for name in "xyz":
        write(tmp_path / "data" / "images" / f"{name}.tif", bands=3)
        write(tmp_path / "data" / "masks" / f"{name}.tif", transform=moved(2, 0) if name == "y" else TURNED)
    return tmp_path / "data"


@pytest.mark.parametrize("mismatch", ["error", "crop"])
def test_an_evaluation_refuses_a_mask_that_lies_elsewhere(folder, mismatch):
    listing, config = find_tiles(folder), DataConfig(path=str(folder), mismatch=mismatch)
    with pytest.raises(
        DataError, match=r"masks/y.tif does not lie where .*images/y.tif does: .* 2 px .*--mismatch skip"
    ):
        load_validation(listing, config, TABLE, ["x", "y"], workers=1)
    assert [tile.id for tile in load_validation(listing, config, TABLE, ["x", "z"], workers=1)] == ["x", "z"]


def test_it_can_be_left_out(folder):
    config = DataConfig(path=str(folder), mismatch="skip")
    assert [tile.id for tile in load_validation(find_tiles(folder), config, TABLE, ["x", "y"], workers=1)] == ["x"]


def test_a_file_that_cannot_be_read_is_told_as_ever(folder):
    (folder / "masks" / "y.tif").write_bytes(b"")
    told = []
    config = DataConfig(path=str(folder))
    on_unreadable = lambda name, why: told.append(name)  # noqa: E731
    tiles = load_validation(find_tiles(folder), config, TABLE, ["x", "y"], on_unreadable=on_unreadable, workers=1)
    assert [tile.id for tile in tiles] == ["x"]
    assert len(told) == 1


def test_the_doctor_notes_it(folder):
    report = inspect(find_tiles(folder), TABLE)
    (problem,) = (problem for problem in report.problems if "do not lie where" in problem.what)
    assert problem.what.startswith("1 masks do not lie where their image does: y.")
    assert not problem.fatal
    assert report.to_dict()["displaced"] == ({"id": "y", "reason": "its pixels lie up to 2 px off the image's"},)
