import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from s4aug_train.data.raster import (
    RasterInfo,
    read_image,
    read_info,
    read_strips,
    read_valid,
    strips,
    write_image,
)
from s4aug_train.errors import DataError


@pytest.fixture
def noise() -> np.ndarray:  # [H, W, 3], odd sides, hard to compress
    return np.random.default_rng(0).integers(0, 256, (181, 203, 3)).astype(np.uint8)


def write_tiff(path: Path, array: np.ndarray, **profile) -> Path:  # [C, H, W]
    mask = profile.pop("mask", None)
    colorinterp = profile.pop("colorinterp", None)
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", transform=rasterio.Affine(2, 0, 9, 0, -2, 9), **shape, **profile
        ) as file,
    ):
        if colorinterp:
            file.colorinterp = colorinterp
        file.write(array)
        if mask is not None:
            file.write_mask(mask)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_png_pixels_are_those_of_pillow_without_alpha(tmp_path, noise, mode):
    image = Image.fromarray(noise).convert(mode)
    path = tmp_path / "a.png"
    image.save(path)
    expected = np.atleast_3d(np.asarray(image))[..., : {"RGB": 3, "L": 1, "RGBA": 3, "LA": 1}[mode]]
    np.testing.assert_array_equal(read_image(path), expected.transpose(2, 0, 1))
    assert read_info(path).bands == expected.shape[2]
    assert read_info(path).masked == ("A" in mode)


def test_jpeg_pixels_are_those_of_pillow_within_decoder_rounding(tmp_path, noise):
    path = tmp_path / "a.JPG"
    smooth = Image.fromarray(noise).resize((40, 30)).resize((203, 181), Image.Resampling.BICUBIC)
    smooth.save(path, quality=95, subsampling=0)
    expected = np.asarray(Image.open(path)).transpose(2, 0, 1).astype(int)
    assert np.abs(read_image(path) - expected).max() <= 2
    assert read_info(path) == RasterInfo(path, (181, 203), 3, "uint8", None, masked=False, block_rows=1)


def test_palette_png_gives_indices_and_its_colours(tmp_path):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3).convert("P")
    image.putpalette([1, 2, 3, 40, 50, 60, 255, 0, 128])
    path = tmp_path / "p.png"
    image.save(path)
    info = read_info(path)
    assert info.palette is not None
    assert info.palette[:3] == ((1, 2, 3), (40, 50, 60), (255, 0, 128))
    assert len(info.palette) == 256
    hash(info)
    np.testing.assert_array_equal(read_image(path)[0], np.arange(12).reshape(3, 4) % 3)


@pytest.mark.parametrize(
    ("source", "decoded"),
    [("uint8", "uint8"), ("uint16", "uint16"), ("float32", "float32")]
    + [(name, "float32") for name in ("int8", "int16", "uint32", "int32", "float64")],
)
def test_every_real_dtype_decodes_with_its_values(tmp_path, source, decoded):
    limits = np.iinfo(source) if np.dtype(source).kind in "iu" else None
    low, high = (max(limits.min, -70000), min(limits.max, 70000)) if limits else (-3, 70000)
    array = np.linspace(low, high, 5 * 7 * 9).reshape(5, 7, 9).astype(source)
    path = write_tiff(tmp_path / "a.tif", array)
    assert read_info(path).dtype == decoded
    assert read_info(path).bands == 5
    image = read_image(path)
    assert image.dtype == decoded
    np.testing.assert_array_equal(image, array.astype(decoded))


def test_complex_numbers_are_refused(tmp_path):
    path = write_tiff(tmp_path / "c.tif", np.ones((1, 4, 4), dtype=np.complex64))
    with pytest.raises(DataError, match="real numbers"):
        read_info(path)


def test_a_window_is_the_same_part_of_the_whole(tmp_path, noise):
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(noise).save(tmp_path / name)
        whole = read_image(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name, (17, 5, 64, 99)), whole[:, 17:81, 5:104])


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (0, 0, 182, 5), (0, 200, 5, 4), (0, 0, 0, 5)])
def test_a_window_outside_is_refused(tmp_path, noise, window):
    Image.fromarray(noise).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png, which is 181 x 203 px"):
        read_image(tmp_path / "a.png", window)


def test_vrt_reads_like_its_source(tmp_path):
    array = np.arange(60, dtype=np.uint16).reshape(2, 5, 6)
    write_tiff(tmp_path / "a.tif", array)
    band = (
        '<VRTRasterBand dataType="UInt16" band="{0}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        "</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
    )
    text = f'<VRTDataset rasterXSize="6" rasterYSize="5">{band.format(1)}{band.format(2)}</VRTDataset>'
    (tmp_path / "a.vrt").write_text(text)
    np.testing.assert_array_equal(read_image(tmp_path / "a.vrt"), array)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 90}),
        ("progressive.jpg", {"quality": 90, "progressive": True}),
        ("a.png", {}),
        ("a.tif", {}),
        ("deflate.tif", {"compression": "tiff_deflate"}),
    ],
)
def test_a_truncated_file_is_refused_by_name(tmp_path, noise, name, options, share):
    path = tmp_path / name
    Image.fromarray(noise).save(path, **options)
    read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        for _ in read_strips(RasterInfo(path, (181, 203), 3, "uint8", None, masked=False), limit_bytes=9000):
            pass


def test_truncation_is_found_from_many_threads_at_once(tmp_path, noise):
    for name in ("a.jpg", "a.png"):
        Image.fromarray(noise).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"bad_{name}").write_bytes(content[: len(content) // 2])

    def outcome(index: int) -> bool:
        try:
            read_image(tmp_path / ("a.jpg", "bad_a.jpg", "a.png", "bad_a.png")[index % 4])
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, range(200))) == [True, False] * 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), r"is empty \(0 bytes\)"),
        (lambda path: path.write_text("not an image"), "damaged, or no JPEG"),
        (lambda path: Image.new("RGB", (5, 5)).save(path, format="GIF"), "is a GIF file"),
    ],
)
def test_what_is_no_image_is_refused_with_the_cure(tmp_path, make, message):
    path = tmp_path / "a.jpg"
    make(path)
    for read in (read_info, read_image, read_valid):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_plain_images_are_all_real(tmp_path, noise):
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(noise).save(tmp_path / name)
        assert not read_info(tmp_path / name).masked
        assert read_valid(tmp_path / name) is None


def test_transparent_pixels_are_not_real(tmp_path, noise):
    alpha = (np.arange(181 * 203) % 5 > 0).reshape(181, 203)
    Image.fromarray(np.dstack([noise, alpha * np.uint8(200)])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_valid(tmp_path / "a.png"), alpha)
    np.testing.assert_array_equal(read_valid(tmp_path / "a.png", (3, 4, 50, 60)), alpha[3:53, 4:64])
    assert read_valid(tmp_path / "a.png", (0, 1, 1, 4)) is None


def test_nodata_in_every_band_of_an_integer_image_is_not_real(tmp_path):
    array = np.random.default_rng(0).integers(0, 2, (2, 9, 8)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", array, nodata=0)
    assert read_info(path).masked
    np.testing.assert_array_equal(read_valid(path), (array != 0).any(axis=0))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_nodata_in_any_band_of_other_images_is_not_real(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, 3, (2, 9, 8)).astype(dtype)
    array[array == 0] = -9999
    path = write_tiff(tmp_path / "a.tif", array, nodata=-9999)
    np.testing.assert_array_equal(read_valid(path), (array != -9999).all(axis=0))


def test_nan_and_infinity_are_not_real_even_without_a_nodata_value(tmp_path):
    array = np.ones((3, 6, 7), dtype=np.float32)
    array[1, 2, 3], array[2, 5, 6], array[0, 0, 0] = np.nan, np.inf, -np.inf
    path = write_tiff(tmp_path / "a.tif", array)
    expected = np.ones((6, 7), dtype=bool)
    expected[2, 3] = expected[5, 6] = expected[0, 0] = False
    np.testing.assert_array_equal(read_valid(path), expected)
    assert read_info(path).masked
    assert read_valid(path, (3, 0, 2, 7)) is None


def test_masked_out_pixels_of_a_mask_band_are_not_real(tmp_path):
    mask = np.random.default_rng(0).random((33, 18)) > 0.5
    path = write_tiff(tmp_path / "a.tif", np.zeros((3, 33, 18), dtype=np.uint8), mask=mask)
    assert read_info(path).bands == 3
    np.testing.assert_array_equal(read_valid(path), mask)


def test_a_fourth_band_that_is_measured_is_data_though_the_header_says_alpha(tmp_path):
    colors = rasterio.enums.ColorInterp
    rgba = [colors.red, colors.green, colors.blue, colors.alpha]
    near_infrared = np.random.default_rng(0).integers(0, 256, (4, 40, 50)).astype(np.uint8)
    path = write_tiff(tmp_path / "nir.tif", near_infrared, colorinterp=rgba)
    assert (read_info(path).bands, read_info(path).masked, read_valid(path)) == (4, False, None)
    transparency = near_infrared.copy()
    transparency[3] = 255 * (np.arange(50) > 9)
    path = write_tiff(tmp_path / "rgba.tif", transparency, colorinterp=rgba)
    assert (read_info(path).bands, read_info(path).masked) == (3, True)
    np.testing.assert_array_equal(read_valid(path), transparency[3] > 0)


@pytest.mark.parametrize(("dtype", "full"), [("uint16", 255), ("uint16", 65535), ("float32", 255), ("float32", 1)])
def test_transparency_of_wider_pixels_may_have_been_left_at_8_bits(tmp_path, dtype, full):
    """As GDAL's warper adds it to a raster of floating point."""
    colors = rasterio.enums.ColorInterp
    image = np.random.default_rng(0).uniform(0, 9000, (4, 40, 50)).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", image, colorinterp=[*[colors.undefined] * 3, colors.alpha])
    assert read_info(path).bands == 4
    image[3] = full * (np.arange(50) > 9)
    path = write_tiff(tmp_path / "b.tif", image, colorinterp=[*[colors.undefined] * 3, colors.alpha])
    assert (read_info(path).bands, read_info(path).masked) == (3, True)
    np.testing.assert_array_equal(read_valid(path), image[3] > 0)


@pytest.mark.parametrize(("limit", "block"), [(1, 1), (4000, 1), (4000, 16), (10**9, 16), (700, 16)])
def test_strips_tile_the_image_within_the_limit(limit, block):
    info = RasterInfo(Path("a"), (101, 30), 4, "uint8", None, masked=False, block_rows=block)
    windows = list(strips(info, limit))
    rows = [row for top, left, height, width in windows for row in range(top, top + height)]
    assert rows == list(range(101))
    assert {(left, width) for _, left, _, width in windows} == {(0, 30)}
    assert all(height * 30 * 4 <= max(limit, 30 * 4) for _, _, height, _ in windows)
    if limit >= block * 30 * 4:
        assert all(top % block == 0 for top, *_ in windows)


def test_strips_together_are_the_image_and_its_validity(tmp_path):
    array = np.random.default_rng(0).random((2, 67, 31)).astype(np.float32)
    array[0, 40:50] = np.nan
    path = write_tiff(tmp_path / "a.tif", array, tiled=True, blockxsize=16, blockysize=16)
    parts = list(read_strips(read_info(path), limit_bytes=31 * 8 * 20))
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate([image for _, image, _ in parts], axis=1), array)
    for (top, _, height, width), _, valid in parts:
        real = np.ones((height, width), dtype=bool) if valid is None else valid
        np.testing.assert_array_equal(real, ~np.isnan(array[0, top : top + height]))


def test_a_large_scene_is_never_in_memory_whole(tmp_path):
    path = tmp_path / "scene.tif"
    profile = {
        "count": 3,
        "height": 6000,
        "width": 6000,
        "dtype": "uint8",
        "compress": "deflate",
        "tiled": True,
    }
    profile["transform"] = rasterio.Affine(2, 0, 9, 0, -2, 9)
    with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, **profile) as file:
        file.write(np.full((3, 256, 256), 7, np.uint8), window=((0, 256), (0, 256)))
    tracemalloc.start()
    total = sum(int(image.sum()) for _, image, _ in read_strips(read_info(path), limit_bytes=8 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 7 * 3 * 256 * 256
    assert peak < 32 << 20  # the scene is 108 MB


def test_written_pictures_are_those_that_pillow_reads(tmp_path, noise):
    array = noise.transpose(2, 0, 1)
    write_image(tmp_path / "new" / "a.png", array)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), noise)
    write_image(tmp_path / "new" / "g.png", array[:1])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "g.png")), noise[..., 0])
    flat = np.full_like(array, 90)
    write_image(tmp_path / "new" / "b.jpg", flat, quality=90)
    assert np.abs(np.asarray(Image.open(tmp_path / "new" / "b.jpg")).astype(int) - 90).max() <= 2
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.jpg", "g.png"]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.tif", np.zeros((3, 4, 4), np.uint8)),
        ("a.png", np.zeros((3, 4, 4), np.float32)),
        ("a.jpg", np.zeros((4, 4, 4), np.uint8)),
        ("a.png", np.zeros((4, 4), np.uint8)),
    ],
)
def test_what_no_picture_can_hold_is_refused_and_leaves_nothing(tmp_path, name, array):
    with pytest.raises(DataError, match="cannot write"):
        write_image(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


def test_nodata_beside_a_fourth_band_is_read_without_a_warning(tmp_path):
    array = np.random.default_rng(0).integers(1, 200, (4, 40, 40)).astype(np.uint8)
    array[:, :5] = 0
    path = write_tiff(tmp_path / "a.tif", array, nodata=0)
    valid = read_valid(path)
    assert not valid[:5].any()
    assert valid[5:].all()


def test_a_raster_that_claims_to_be_endless_is_refused(tmp_path):
    side = (1 << 24) + 1
    (tmp_path / "a.vrt").write_text(f'<VRTDataset rasterXSize="{side}" rasterYSize="1"><VRTRasterBand/></VRTDataset>')
    with pytest.raises(DataError, match="is 1 x 16777217 px, and 16,777,216 px a side are the most"):
        read_info(tmp_path / "a.vrt")
