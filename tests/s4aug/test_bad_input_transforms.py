"""What is wrong with a transform, or with the frame it is asked for, is told in one line."""

import math

import numpy as np
import pytest
import torch

from s4aug import AffineRanges, AffineTransform, View, sample_affine
from tests.s4aug.bad_input_cases import NAN, SIZE, STILL, bad, refused


class TestMatrices:
    @pytest.mark.parametrize(
        ("rows", "told"),
        [
            bad("two rows alike", [[1, 2, 3], [1, 2, 3], [0, 0, 1]], "cannot be inverted"),
            bad("no scale", [[0, 0, 3], [0, 0, 3], [0, 0, 1]], "cannot be inverted"),
            bad("next to nothing", [[1e-170, 0, 0], [0, 1e-170, 0], [0, 0, 1]], "cannot be inverted"),
            bad("a great shrinking", [[1e-6, 0, 0], [0, 1e-6, 0], [0, 0, 1]], "shrinks by more than 16384", "singular"),
            bad("NaN", [[NAN, 0, 0], [0, 1, 0], [0, 0, 1]], "not finite", "nan"),
            bad("infinity", [[1, 0, math.inf], [0, 1, 0], [0, 0, 1]], "not finite", "inf"),
            bad("a perspective", [[1, 0, 0], [0, 1, 0], [0.01, 0, 1]], "(0, 0, 1)", "0.01"),
        ],
    )
    def test_a_bad_matrix_on_the_cpu_is_refused_and_its_sample_named(self, rows, told):
        matrix = torch.eye(3, dtype=torch.float64).repeat(5, 1, 1)
        matrix[3] = torch.tensor(rows, dtype=torch.float64)
        with refused("sample 3", *told):
            AffineTransform(matrix, SIZE)

    @pytest.mark.parametrize(
        ("matrix", "told"),
        [
            bad("no batch", torch.eye(3), "[B, 3, 3]", "[3, 3]"),
            bad("two rows", torch.zeros(1, 2, 3), "[B, 3, 3]", "[1, 2, 3]"),
            bad("an array of numpy", np.eye(3)[None], "Tensor", "ndarray"),
            bad("complex numbers", torch.eye(3, dtype=torch.complex64)[None], "complex64"),
        ],
    )
    def test_other_things_than_matrices_are_refused(self, matrix, told):
        with refused("matrix", *told):
            AffineTransform(matrix, SIZE)

    @pytest.mark.parametrize(
        "size", [(0, 5), (4, 0), (-1, 5), (4.5, 5), (4,), (4, 5, 6), 4, None, (NAN, 5), (math.inf, 5)], ids=repr
    )
    def test_impossible_sizes_are_refused(self, size):
        with refused("size", "(H, W)", "at least 1", repr(size)):
            AffineTransform(torch.eye(3)[None], size)

    @pytest.mark.parametrize("size", [(0, 5), (4,), 4], ids=repr)
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda size: AffineTransform.identity(1, size), id="identity"),
            pytest.param(lambda size: AffineTransform.hflip(1, size), id="hflip"),
            pytest.param(lambda size: AffineTransform.vflip(1, size), id="vflip"),
            pytest.param(lambda size: AffineTransform.rot90(1, 1, size), id="rot90"),
            pytest.param(lambda size: AffineTransform.shift(torch.zeros(1, 2), size), id="shift"),
            pytest.param(lambda size: AffineTransform.resize((2, 2), size, 1), id="resize from"),
            pytest.param(lambda size: AffineTransform.resize(size, (2, 2), 1), id="resize to"),
            pytest.param(lambda size: AffineTransform.from_params(angle=3.0, size=size), id="from_params"),
            pytest.param(lambda size: sample_affine(AffineRanges(15), 1, size), id="sample_affine"),
        ],
    )
    def test_impossible_sizes_are_refused_wherever_a_transform_is_made(self, make, size):
        with refused("size", "(H, W)", "at least 1", repr(size)):
            make(size)

    @pytest.mark.parametrize(
        ("parameters", "told"),
        [
            bad("NaN angle", {"angle": NAN}, "angle", "nan"),
            bad("infinite angle", {"angle": math.inf}, "angle", "inf"),
            bad("NaN translation", {"translation": (NAN, 0.0)}, "translation", "nan"),
            bad("NaN scale", {"scale": torch.tensor([1.0, NAN])}, "sample 1", "scale", "nan"),
            bad("NaN shear", {"shear": (0.0, NAN)}, "shear", "nan"),
            bad("NaN center", {"center": (NAN, 0.0)}, "center", "nan"),
            bad("no scale", {"scale": 0.0}, "sample 0", "cannot be inverted"),
            bad("a shear of 90 degrees", {"shear": (90.0, 0.0)}, "sample 0", "singular"),
            bad("a word", {"angle": "left"}, "angle", "'left'"),
            bad("three numbers", {"translation": (1.0, 2.0, 3.0)}, "translation", "[B, 2]", "3"),
            bad(
                "batches that differ",
                {"angle": torch.zeros(2), "translation": torch.zeros(3, 2)},
                "translation",
                "batch 3",
                "2",
            ),
            bad(
                "devices that differ",
                {"angle": torch.zeros(2), "translation": torch.zeros(2, 2, device="meta")},
                "angle",
                "translation",
                "cpu",
                "meta",
                "move",
            ),
        ],
    )
    def test_bad_parameters_are_refused_by_name(self, parameters, told):
        with refused(*told):
            AffineTransform.from_params(**parameters, size=SIZE)

    @pytest.mark.parametrize("number", [np.float64(30), np.float32(30), np.int64(30), torch.tensor(30)])
    def test_numbers_of_numpy_and_torch_are_numbers(self, number):
        expected = AffineTransform.from_params(angle=30.0, size=SIZE).matrix
        assert torch.equal(AffineTransform.from_params(angle=number, size=SIZE).matrix, expected)

    @pytest.mark.parametrize(
        ("call", "told"),
        [
            bad("shift without batch", lambda: AffineTransform.shift(torch.zeros(2), SIZE), "xy", "[B, 2]", "[2]"),
            bad("shift in 3D", lambda: AffineTransform.shift(torch.zeros(1, 3), SIZE), "xy", "[B, 2]", "[1, 3]"),
            bad("shift by a tuple", lambda: AffineTransform.shift((1, 2), SIZE), "xy", "Tensor", "tuple"),
            bad("shift by NaN", lambda: AffineTransform.shift(torch.tensor([[0.0, NAN]]), SIZE), "sample 0", "nan"),
            bad("crop at numbers", lambda: AffineTransform.crop(1, 2, (2, 2), SIZE), "top", "Tensor", "int"),
            bad(
                "crop at NaN",
                lambda: AffineTransform.crop(torch.zeros(2), torch.tensor([0.0, NAN]), (2, 2), SIZE),
                "sample 1",
                "nan",
            ),
            bad(
                "crop of batches that differ",
                lambda: AffineTransform.crop(torch.zeros(2), torch.zeros(3), (2, 2), SIZE),
                "top",
                "left",
                "[2]",
                "[3]",
            ),
            bad(
                "crop of devices that differ",
                lambda: AffineTransform.crop(torch.zeros(2), torch.zeros(2, device="meta"), (2, 2), SIZE),
                "top",
                "left",
                "meta",
            ),
        ],
    )
    def test_bad_arguments_of_the_named_motions_are_refused(self, call, told):
        with refused(*told):
            call()

    @pytest.mark.parametrize(
        ("call", "told"),
        [
            bad(
                "frames that do not join",
                lambda: STILL @ AffineTransform.hflip(2, (5, 4)),
                "b ends in a frame of (5, 4)",
                "(4, 5)",
            ),
            bad("batches that do not join", lambda: STILL @ AffineTransform.hflip(3, SIZE), "batch 2", "3"),
            bad("devices that do not join", lambda: STILL @ STILL.to("meta"), "b is on meta", "cpu", "transform.to"),
            bad("points without batch", lambda: STILL.points(torch.zeros(7, 2)), "xy", "[2, N, 2]", "[7, 2]"),
            bad("points in 3D", lambda: STILL.points(torch.zeros(2, 7, 3)), "xy", "[2, N, 2]", "[2, 7, 3]"),
            bad("points of another batch", lambda: STILL.points(torch.zeros(3, 7, 2)), "xy", "[3, 7, 2]"),
            bad("points of numpy", lambda: STILL.points(np.zeros((2, 7, 2))), "xy", "Tensor", "ndarray"),
            bad("points elsewhere", lambda: STILL.points(torch.zeros(2, 7, 2, device="meta")), "xy", "meta", "cpu"),
            bad("boxes without batch", lambda: STILL.boxes(torch.zeros(7, 4)), "xyxy", "[2, N, 4]", "[7, 4]"),
            bad("boxes of numpy", lambda: STILL.boxes(np.zeros((2, 7, 4))), "xyxy", "Tensor", "ndarray"),
            bad("boxes elsewhere", lambda: STILL.boxes(torch.zeros(2, 7, 4, device="meta")), "xyxy", "meta", "cpu"),
            bad("three coefficients", lambda: STILL.to_rasterio((1.0, 0.0, 0.0)), "geotransform", "6", "3"),
            bad(
                "a flat geotransform",
                lambda: AffineTransform.from_rasterio((0.0,) * 6, (1.0, 0, 0, 0, -1, 0), SIZE, SIZE),
                "geotransform",
                "inverted",
            ),
            bad(
                "a geotransform of NaN",
                lambda: AffineTransform.from_rasterio((NAN, 0, 0, 0, 1, 0), (1.0, 0, 0, 0, -1, 0), SIZE, SIZE),
                "geotransform",
                "nan",
            ),
        ],
    )
    def test_bad_arguments_of_a_transform_are_refused(self, call, told):
        with refused(*told):
            call()


class TestOtherResolutions:
    FRAME = AffineTransform.identity(1, (64, 48))

    @pytest.mark.parametrize(
        ("cells", "options", "told"),
        [
            pytest.param(cells, options, told, id=name)
            for name, cells, options, told in [
                ("another aspect", (16, 13), {}, ("(64, 48)", "(16, 13)", "aspects differ")),
                ("ambiguous", (2, 1), {"stride": 32.5}, ("(2, 1)", "does not fit", "(64, 48)", "(2, 2)")),
                ("no cells", (0, 12), {}, ("size", "(0, 12)")),
                ("stride too small", (16, 12), {"stride": 2}, ("(16, 12)", "does not fit", "(64, 48)", "(32, 24)")),
                ("no stride", (16, 12), {"stride": 0}, ("stride", "0")),
                ("stride below 0", (16, 12), {"stride": -4}, ("stride", "-4")),
                ("stride NaN", (16, 12), {"stride": NAN}, ("stride", "nan")),
                ("stride infinite", (16, 12), {"stride": math.inf}, ("stride", "inf")),
                ("offset NaN", (16, 12), {"stride": 4, "offset": NAN}, ("offset", "nan")),
                ("offset of three", (16, 12), {"stride": 4, "offset": (0.0, 0.0, 0.0)}, ("offset", "(0.0, 0.0, 0.0)")),
                ("offset of one", (16, 12), {"stride": 4, "offset": (0.0,)}, ("offset", "(0.0,)")),
            ]
        ],
    )
    def test_maps_strides_and_offsets_that_cannot_be_are_refused(self, cells, options, told):
        with refused(*told):
            self.FRAME.at(cells, **options)
        if min(cells) > 0:
            view = View(torch.zeros(1, 1, 64, 48), torch.ones(1, 1, 64, 48, dtype=torch.bool), self.FRAME)
            with refused(*told):
                view.restore(torch.zeros(1, 2, *cells), **options)

    def test_an_offset_may_be_a_list(self):
        listed = self.FRAME.at((16, 12), stride=4, offset=[0.0, 1.0])
        assert torch.equal(listed.matrix, self.FRAME.at((16, 12), stride=4, offset=(0.0, 1.0)).matrix)
