"""Geotransforms of moved rasters."""

import numpy as np
import pytest
import torch
from rasterio import Affine
from rasterio.transform import xy as centres
from rasterio.warp import Resampling, reproject
from torch.testing import assert_close

from s4aug import AffineTransform, ArgumentError, warp


class TestGeotransform:
    """Rasters: `rasterio.transform` and the pixels' own world coordinates are the truth."""

    SOURCE = (0.5, 0.0, 431000.0, 0.0, -0.5, 5271000.0)

    def world(self, geotransform, xy):
        """World coordinates of pixel centres, by rasterio."""
        east, north = centres(Affine(*geotransform), [y for _, y in xy], [x for x, _ in xy])
        return np.stack([east, north], -1)

    @pytest.mark.parametrize("geotransform", [SOURCE, (0.3, 0.1, 5.0, -0.05, -0.4, 9.0)])
    def test_a_pixel_keeps_its_place_in_the_world(self, geotransform):
        t = AffineTransform.from_params(angle=[20.0, -50.0], scale=1.3, translation=(3.5, -2.0), size=(40, 60))
        xy = [(0.0, 0.0), (59.0, 39.0), (12.25, 30.5)]
        for index in range(2):
            moved = t[index].points(torch.tensor([xy], dtype=torch.float64))[0].tolist()
            there = self.world(t.to_rasterio(geotransform, index), moved)
            np.testing.assert_allclose(there, self.world(geotransform, xy), rtol=0, atol=1e-8)

    def test_a_crop_moves_the_origin_by_whole_pixels(self):
        crop = AffineTransform.crop(torch.tensor([10]), torch.tensor([4]), (8, 8), (40, 60))
        assert crop.to_rasterio(self.SOURCE) == (0.5, 0.0, 431002.0, 0.0, -0.5, 5270995.0)

    def test_a_resize_keeps_the_outer_corner(self):
        half = AffineTransform.resize((20, 30), (40, 60), 1)
        np.testing.assert_allclose(half.to_rasterio(self.SOURCE), (1.0, 0, 431000.0, 0, -1.0, 5271000.0), rtol=1e-15)

    def test_from_rasterio_is_the_way_back(self):
        t = AffineTransform.from_params(angle=33.0, scale=0.8, size=(40, 60))
        again = AffineTransform.from_rasterio(self.SOURCE, t.to_rasterio(self.SOURCE), (40, 60), (40, 60))
        assert_close(again.matrix, t.matrix, rtol=0, atol=1e-6)

    def test_a_flat_geotransform_is_refused(self):
        with pytest.raises(ArgumentError, match="cannot be inverted"):
            AffineTransform.from_rasterio((0.0, 0, 1, 0, 0, 1), self.SOURCE, (4, 4), (4, 4))


class TestWarpedRasters:
    """The geotransform of a warped raster, followed in the arithmetic of rasterio's `Affine`."""

    SOURCE = (0.5, 0.0, 431000.0, 0.0, -0.5, 5271000.0)
    SIZE = (40, 60)
    MOTIONS = pytest.mark.parametrize(
        "t",
        [
            pytest.param(AffineTransform.from_params(angle=25.0, size=SIZE), id="rotation"),
            pytest.param(AffineTransform.crop(torch.tensor([7]), torch.tensor([11]), (20, 9), SIZE), id="crop"),
            pytest.param(AffineTransform.resize((80, 90), SIZE, 1), id="enlarged"),
            pytest.param(AffineTransform.resize((10, 12), SIZE, 1), id="reduced"),
            pytest.param(AffineTransform.hflip(1, SIZE), id="left-right flip"),
            pytest.param(AffineTransform.vflip(1, SIZE), id="top-bottom flip"),
            pytest.param(AffineTransform.rot90(1, 1, SIZE), id="quarter turn"),
            pytest.param(
                AffineTransform.crop(torch.tensor([3]), torch.tensor([5]), (16, 24), SIZE)
                @ AffineTransform.from_params(angle=-70.0, scale=1.3, shear=(8.0, 0.0), size=SIZE)
                @ AffineTransform.hflip(1, SIZE),
                id="a product",
            ),
        ],
    )

    @MOTIONS
    @pytest.mark.parametrize("source", [SOURCE, (0.3, 0.1, 5.0, -0.05, -0.4, 9.0)])
    def test_a_pixel_of_the_output_lies_in_the_world_where_the_pixel_it_shows_lies(self, source, t):
        home = np.linalg.inv(t.matrix[0].numpy())
        columns, rows = [0, t.out_size[1] - 1, 3, 4], [0, 0, t.out_size[0] - 1, 6]
        x, y, _ = home @ [columns, rows, [1] * 4]
        there, here = Affine(*t.to_rasterio(source)), Affine(*source)
        np.testing.assert_allclose(centres(there, rows, columns), centres(here, y, x), rtol=0, atol=1e-7)

    def test_the_check_sees_the_corner_taken_for_the_centre(self):
        t = AffineTransform.resize((80, 120), self.SIZE, 1)
        source = np.array(Affine(*self.SOURCE)).reshape(3, 3)
        naive = Affine(*(source @ np.linalg.inv(t.matrix[0].numpy()))[:2].flatten())
        right = Affine(*t.to_rasterio(self.SOURCE))
        assert abs(centres(naive, [0], [0])[0] - centres(right, [0], [0])[0]) > 0.1

    @pytest.mark.parametrize(
        "t",
        [
            pytest.param(AffineTransform.from_params(angle=25.0, translation=(3.0, -2.0), size=(44, 44)), id="turned"),
            pytest.param(AffineTransform.from_params(angle=-130.0, scale=1.2, size=(44, 44)), id="turned and enlarged"),
            pytest.param(AffineTransform.resize((88, 110), (44, 44), 1), id="resized"),
            pytest.param(AffineTransform.hflip(1, (44, 44)), id="flipped"),
            pytest.param(AffineTransform.crop(torch.tensor([7]), torch.tensor([11]), (20, 9), (44, 44)), id="cropped"),
        ],
    )
    def test_gdal_resampling_to_that_geotransform_gives_the_same_pixels(self, t):
        y, x = np.mgrid[:44, :44]
        scene = np.sin(x / 6) + np.cos(y / 5)
        expected = np.zeros(t.out_size)
        reproject(
            scene,
            expected,
            src_transform=Affine(*self.SOURCE),
            dst_transform=Affine(*t.to_rasterio(self.SOURCE)),
            src_crs="EPSG:32632",
            dst_crs="EPSG:32632",
            resampling=Resampling.bilinear,
            tolerance=0,
        )
        warped, real = warp(torch.from_numpy(scene)[None, None], t)
        inside = real[0, 0].numpy()
        assert inside.mean() > 0.5
        # World coordinates of 5e6 m leave 1e-9 px.
        np.testing.assert_allclose(warped[0, 0].numpy()[inside], expected[inside], rtol=0, atol=1e-8)
