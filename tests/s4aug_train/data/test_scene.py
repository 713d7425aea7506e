import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint

from s4aug_train.data.scene import Reading, opened_scene
from s4aug_train.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
# Of what tests write.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path, array, *, driver="GTiff", mask=None, gcps=None, **profile):
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype, "driver": driver}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **shape, **profile) as dataset:
        dataset.write(array)
        if mask is not None:
            dataset.write_mask(mask)
        if gcps:
            dataset.gcps = gcps, "EPSG:4326"
    return path


def image_of(dtype, bands=3, size=(37, 53)):
    values = RNG.integers(1, 250, (bands, *size))
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"interleave": "band"}])
def test_any_window_holds_the_files_pixels(tmp_path, dtype, layout):
    image = image_of(dtype)
    path = write(tmp_path / "a.tif", image, **layout)
    with opened_scene(path, 3, dtype, Reading()) as scene:
        assert scene.size == (37, 53)
        pixels, valid = scene.read((5, 7, 20, 31))
    assert pixels.dtype == dtype
    assert (pixels == image[:, 5:25, 7:38]).all()
    assert valid is None


def test_int16_is_read_as_the_trainer_decodes_it(tmp_path):
    image = image_of("int16") - 100
    with opened_scene(write(tmp_path / "a.tif", image), 3, "float32", Reading()) as scene:
        assert (scene.read((0, 0, 37, 53))[0] == image).all()


def test_chosen_bands_come_in_their_order(tmp_path):
    image = image_of("uint8", bands=5)
    with opened_scene(write(tmp_path / "a.tif", image), 3, "uint8", Reading(bands=(4, 1, 5))) as scene:
        assert (scene.read((0, 0, 37, 53))[0] == image[[3, 0, 4]]).all()


def test_what_is_not_real_is_told_by_nodata_mask_and_the_users_value(tmp_path):
    image = image_of("uint8")
    image[:, :4], image[:, 10:14] = 0, 9
    real = np.ones((37, 53), bool)
    real[:4] = False
    with opened_scene(write(tmp_path / "a.tif", image, nodata=0), 3, "uint8", Reading(nodata=9)) as scene:
        valid = scene.read((0, 0, 37, 53))[1]
    real[10:14] = False
    assert (valid == real).all()
    hole = np.full((37, 53), 255, np.uint8)
    hole[20:, 30:] = 0
    with opened_scene(write(tmp_path / "b.tif", image, mask=hole), 3, "uint8", Reading()) as scene:
        assert (scene.read((0, 0, 37, 53))[1] == (hole > 0)).all()


def test_pixels_are_scaled_rounded_and_cut_off(tmp_path):
    image = np.array([[[0, 1, 5000, 10000, 60000]]], np.uint16)
    path = write(tmp_path / "a.tif", image)
    with opened_scene(path, 1, "uint8", Reading(scale=(0.0255, 0.0))) as scene:
        assert scene.read((0, 0, 1, 5))[0].tolist() == [[[0, 0, 128, 255, 255]]]
    with opened_scene(path, 1, "float32", Reading(scale=(1e-4, -0.5))) as scene:
        assert scene.read((0, 0, 1, 5))[0] == pytest.approx(np.array([[[-0.5, -0.4999, 0, 0.5, 5.5]]]), abs=1e-6)


def test_nan_is_not_real_and_no_number_after_scaling(tmp_path):
    image = np.full((1, 4, 4), 0.5, np.float32)
    image[0, 0, 0] = np.nan
    with opened_scene(write(tmp_path / "a.tif", image), 1, "uint8", Reading(scale=(100.0, 0.0))) as scene:
        pixels, valid = scene.read((0, 0, 4, 4))
    assert not valid[0, 0]
    assert pixels[0, 1, 1] == 50


def test_where_it_lies_is_told_as_it_is(tmp_path):
    turned = rasterio.Affine.translation(5e5, 4e6) @ rasterio.Affine.rotation(20) @ rasterio.Affine.scale(10, -10)
    points = [GroundControlPoint(r, c, c / 10, 50 - r / 10) for r, c in ((0, 0), (0, 50), (30, 0))]
    image = image_of("uint8")
    kinds = {
        "turned": ({"transform": turned, "crs": "EPSG:32652"}, {"transform": turned, "crs": "EPSG:32652"}),
        "nowhere": ({}, {}),
        "no_system": ({"transform": turned}, {"transform": turned}),
    }
    for name, (profile, expected) in kinds.items():
        with opened_scene(write(tmp_path / f"{name}.tif", image, **profile), 3, "uint8", Reading()) as scene:
            assert scene.place() == expected
    with opened_scene(write(tmp_path / "p.tif", image, gcps=points), 3, "uint8", Reading()) as scene:
        assert [(p.row, p.col, p.x, p.y) for p in scene.place()["gcps"]] == [(p.row, p.col, p.x, p.y) for p in points]


def test_a_band_that_is_asked_for_is_no_transparency_whatever_the_file_says(tmp_path):
    # GDAL calls the fourth band of such files alpha, and over water a measured one is 0 like that.
    image = image_of("uint8", bands=4)
    image[3, 1:] = 0
    path = write(tmp_path / "water.tif", image, photometric="RGB", alpha="yes")
    told = r"has 3 bands \(band 4 was taken for transparency: name it with --bands if it is none\), the network takes 4"
    with pytest.raises(DataError, match=told), opened_scene(path, 4, "uint8", Reading()):
        pass
    with opened_scene(path, 3, "uint8", Reading(bands=(4, 3, 2))) as scene:
        pixels, valid = scene.read((0, 0, 37, 53))
    assert (pixels == image[[3, 2, 1]]).all()
    assert valid is None


@pytest.mark.parametrize("scale", [(0.0, 1.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_scale_that_makes_no_pixels_is_refused(scale):
    with pytest.raises(ConfigError, match="use a finite factor other than 0"):
        Reading(scale=scale)


def test_what_overflows_by_scaling_is_not_real(tmp_path):
    image = np.array([[[1.0, 1e30]]], np.float32)
    with opened_scene(write(tmp_path / "a.tif", image), 1, "float32", Reading(scale=(1e20, 0.0))) as scene:
        assert scene.read((0, 0, 1, 2))[1].tolist() == [[True, False]]


def test_control_points_without_a_system_are_no_place(tmp_path):
    points = [GroundControlPoint(r, c, c / 10, 50 - r / 10) for r, c in ((0, 0), (0, 50), (30, 0))]
    write(tmp_path / "a.tif", image_of("uint8"))
    listed = "".join(f'<GCP Pixel="{p.col}" Line="{p.row}" X="{p.x}" Y="{p.y}"/>' for p in points)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="53" rasterYSize="37"><GCPList>{listed}</GCPList>{bands}</VRTDataset>')
    with opened_scene(path, 3, "uint8", Reading()) as scene:
        assert scene.place() == {}


@pytest.mark.parametrize(
    ("bands", "network", "reading", "told"),
    [
        (4, 3, Reading(), r"a\.tif has 4 bands, the network takes 3; choose them with --bands, as in --bands 1,2,3"),
        (2, 3, Reading(), r"a\.tif has 2 bands, the network takes 3; use a raster of the same bands"),
        (4, 3, Reading(bands=(1, 2)), "--bands names 2 bands, the network takes 3; name as many"),
        (4, 3, Reading(bands=(1, 2, 5)), r"a\.tif has no band 5: it has 4; choose others"),
        (4, 3, Reading(bands=(0, 1, 2)), r"a\.tif has no band 0"),
    ],
)
def test_a_raster_of_other_bands_is_refused_with_the_cure(tmp_path, bands, network, reading, told):
    path = write(tmp_path / "a.tif", image_of("uint8", bands=bands))
    with pytest.raises(DataError, match=told), opened_scene(path, network, "uint8", reading):
        pass


@pytest.mark.parametrize(("found", "trained"), [("uint16", "uint8"), ("uint8", "float32"), ("float32", "uint16")])
def test_pixels_of_another_type_need_a_scale(tmp_path, found, trained):
    path = write(tmp_path / "a.tif", image_of(found))
    told = f"holds pixels of {found}, the network was trained on {trained}; say .* --scale FACTOR"
    with pytest.raises(DataError, match=told), opened_scene(path, 3, trained, Reading()):
        pass
    with opened_scene(path, 3, trained, Reading(scale=(1.0, 0.0))) as scene:
        assert scene.read((0, 0, 2, 2))[0].dtype == trained


@pytest.mark.parametrize(
    ("found", "trained", "example", "most"),
    [
        ("uint16", "uint8", "0.0255 makes 0 to 255 of 0 to 10000", 10000),
        ("int16", "uint8", "0.0255 makes 0 to 255 of 0 to 10000", 10000),
        ("float32", "uint8", "255 makes 0 to 255 of 0 to 1", 1),
        ("float64", "uint16", "65535 makes 0 to 65535 of 0 to 1", 1),
        ("uint8", "uint16", "257 makes 0 to 65535 of 0 to 255", 255),
    ],
)
def test_the_scale_that_is_proposed_fills_the_range(tmp_path, found, trained, example, most):
    path = write(tmp_path / "a.tif", (image_of("float64") / 250 * most).astype(found))
    told = rf"holds pixels of {found}, .*\(for example, {example}\)"
    with pytest.raises(DataError, match=told), opened_scene(path, 3, trained, Reading()):
        pass
    factor, highest = float(example.split()[0]), np.iinfo(trained).max
    with opened_scene(path, 3, trained, Reading(scale=(factor, 0.0))) as scene:
        pixels, _ = scene.read((0, 0, *scene.size))
    assert 0.9 * highest < pixels.max() <= highest
    assert pixels.max() > 2 * pixels.mean() * 0.9
