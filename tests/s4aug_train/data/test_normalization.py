"""Statistics are ImageNet's or those of the real pixels, and what is not real becomes 0."""

import numpy as np
import pytest
import rasterio
import torch

from s4aug_train.data.cache import Tile, load_tiles
from s4aug_train.data.layouts import TileFile
from s4aug_train.data.normalization import Normalization, choose_normalization
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.errors import DataError


def tile(image: np.ndarray, valid: np.ndarray | None = None) -> Tile:  # [C, H, W], [H, W]
    real = image.reshape(len(image), -1) if valid is None else image[:, valid]
    wide = real.astype(np.float64)
    sums = np.stack([np.full(len(image), wide.shape[1]), wide.sum(1), (wide**2).sum(1)])
    return Tile("t", image, None, valid, (), sums)


def noise(bands: int, dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 60000 if dtype != "uint8" else 256, (bands, 17, 19)).astype(dtype)


def test_8_bit_rgb_takes_the_statistics_of_imagenet():
    chosen = choose_normalization([tile(noise(3, "uint8"))])
    assert chosen.source == "imagenet"
    np.testing.assert_allclose(chosen.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(chosen.std, [58.395, 57.12, 57.375])


@pytest.mark.parametrize(("bands", "dtype"), [(4, "uint8"), (1, "uint8"), (3, "uint16"), (3, "float32"), (7, "uint16")])
def test_all_else_takes_the_statistics_of_its_real_pixels(bands, dtype):
    images = [noise(bands, dtype, seed) for seed in range(3)]
    valid = np.random.default_rng(9).random((17, 19)) < 0.6
    images[1][:, ~valid] = 9
    chosen = choose_normalization([tile(images[0]), tile(images[1], valid), tile(images[2])])
    real = np.concatenate([images[0].reshape(bands, -1), images[1][:, valid], images[2].reshape(bands, -1)], 1)
    assert chosen.source == "measured"
    np.testing.assert_allclose(chosen.mean, real.mean(1, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(chosen.std, real.std(1, dtype=np.float64), rtol=1e-9)


def test_statistics_of_files_leave_nan_and_nodata_out(tmp_path, monkeypatch):
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
    image = noise(4, "float32")
    image[0, 2, 3], image[1, 5], image[3, 7, 7] = np.nan, np.inf, -9999
    place = rasterio.Affine(2, 0, 9, 0, -2, 9)
    profile = {"count": 4, "height": 17, "width": 19, "dtype": "float32", "nodata": -9999, "transform": place}
    with rasterio.open(tmp_path / "x.tif", "w", driver="GTiff", **profile) as file:
        file.write(image)
    chosen = choose_normalization(load_tiles([TileFile("x", tmp_path / "x.tif", None)], DEEPGLOBE))
    real = image[:, np.isfinite(image).all(0) & (image != -9999).all(0)].astype(np.float64)
    assert real.shape[1] == 17 * 19 - 1 - 19 - 1
    np.testing.assert_allclose(chosen.mean, real.mean(1), rtol=1e-9)
    np.testing.assert_allclose(chosen.std, real.std(1), rtol=1e-9)


@pytest.mark.parametrize("value", [0, 7, 2.7, 1000.3, -300.1, 1e6 + 0.7])
def test_a_constant_band_is_neither_nan_nor_blown_up(value):
    image = np.stack([np.full((301, 303), value), np.random.default_rng(0).random((301, 303))]).astype(np.float32)
    # One number after the other: the most that rounding can leave of a deviation.
    wide = image.reshape(2, -1).astype(np.float64)
    sums = [np.full(2, wide.shape[1]), np.cumsum(wide, 1)[:, -1], np.cumsum(wide**2, 1)[:, -1]]
    chosen = choose_normalization([Tile("t", image, None, None, (), np.stack(sums))] * 3)
    images = torch.from_numpy(image)[None] + 1
    normalized = chosen.apply(images, None)
    assert normalized.isfinite().all()
    assert normalized[:, 0].abs().max() < 2
    assert chosen.std[1] == pytest.approx(image[1].std(dtype=np.float64), rel=1e-6)


def test_tiles_without_a_real_pixel_give_finite_statistics():
    chosen = choose_normalization([tile(noise(4, "uint16"), np.zeros((17, 19), bool))])
    assert (chosen.mean, chosen.std) == ((0.0,) * 4, (1.0,) * 4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_real_pixels_are_shifted_and_scaled_by_band(dtype):
    images = np.stack([noise(2, dtype, seed) for seed in range(3)])
    result = Normalization((10.0, 200.0), (4.0, 0.5), "measured").apply(torch.from_numpy(images), None)
    assert result.dtype == torch.float32
    wide = images.astype(np.float64)
    expected = np.stack([(wide[:, 0] - 10) / 4, (wide[:, 1] - 200) / 0.5], 1)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-4)


def test_what_is_not_real_becomes_0_even_where_it_is_nan_or_infinite():
    images = torch.ones(2, 3, 4, 5)
    images[0, 0, 0, 0], images[0, 1, 0, 1], images[1, 2, 3, 4] = torch.nan, torch.inf, -torch.inf
    valid = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    valid[0, 0, 0, :2] = valid[1, 0, 3, 4] = False
    before = images.clone()
    result = Normalization((0.5,) * 3, (0.25,) * 3, "measured").apply(images, valid)
    expected = torch.where(valid, 2.0, 0.0).expand(2, 3, 4, 5)
    assert torch.equal(result, expected)
    torch.testing.assert_close(images, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("mean", "std", "source"),
    [
        ((1.0,), (0.0,), "measured"),
        ((float("nan"),), (1.0,), "measured"),
        ((1.0,), (float("inf"),), "measured"),
        ((1.0, 2.0), (1.0,), "measured"),
        (("a",), (1.0,), "measured"),
        ((1.0,), (1.0,), None),
    ],
)
def test_statistics_that_normalise_nothing_are_refused(mean, std, source):
    with pytest.raises(DataError, match="cannot be normalised"):
        Normalization(mean, std, source)
