"""What is wrong with a call is told in one line: the argument, what was expected, what came, and the cure."""

import math
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from s4aug import (
    AffineRanges,
    AffineTransform,
    ArgumentError,
    BackendUnavailable,
    RandomAffine,
    S4AugError,
    View,
    consistency_loss,
    sample_affine,
    warp,
)

SIZE = (4, 5)
NAN = math.nan
IMAGE = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
STILL = AffineTransform.identity(2, SIZE)
# What a raw error of torch or Python says, and a name printed as an object.
RAW = re.compile(r"built-in method|object at 0x|not implemented for|invalid combination|has no attribute")


@contextmanager
def refused(*told, builtin=ValueError):
    """The block must raise an error of ours that is also `builtin` and tells each of the words `told`."""
    with pytest.raises(S4AugError) as caught:
        yield
    message = str(caught.value)
    assert isinstance(caught.value, builtin)
    assert "\n" not in message
    assert not RAW.search(message), message
    for part in told:
        assert part in message, f"{part!r} is not in: {message}"


class TestTheCheckItself:
    def test_no_error_at_all_is_seen(self):
        with pytest.raises(pytest.fail.Exception), refused("anything"):
            pass

    def test_a_raw_error_passes_through(self):
        with pytest.raises(RuntimeError, match="inconsistent tensor size"), refused("size"):
            torch.zeros(2) @ torch.zeros(3)

    @pytest.mark.parametrize(
        ("message", "builtin"),
        [
            ("image is wrong", ValueError),
            ("image must have shape [9, 9]", RuntimeError),
            ("image [9, 9], made for <built-in method size of Tensor object>", ValueError),
            ("image must have shape [9, 9]\nand more", ValueError),
        ],
    )
    def test_a_message_that_leaves_something_out_and_another_builtin_are_seen(self, message, builtin):
        with pytest.raises(AssertionError), refused("image", "[9, 9]", builtin=builtin):
            raise ArgumentError(message)

    def test_a_whole_message_passes(self):
        with refused("image", "[1, 4, 5]"):
            raise ArgumentError("image must have shape [B, C, H, W], got [1, 4, 5]")
        with refused("numpy", builtin=RuntimeError):
            raise BackendUnavailable("backend 'numpy' is not there")


def bad(name, call, *told):
    return pytest.param(call, told, id=name)


class TestImages:
    """`warp` and `RandomAffine` take tensors [B, C, H, W] of real numbers, beside their transform."""

    @pytest.mark.parametrize(
        ("image", "told"),
        [
            bad("an array of numpy", np.zeros((2, 1, 4, 5), np.float32), "image", "Tensor", "ndarray"),
            bad("nothing", None, "image", "Tensor", "None"),
            bad("no batch", IMAGE[0], "image", "[B, C, H, W]", "[1, 4, 5]"),
            bad("too many axes", IMAGE[None], "image", "[B, C, H, W]", "[1, 2, 1, 4, 5]"),
            bad("a plane", IMAGE[0, 0], "image", "[B, C, H, W]", "[4, 5]"),
            bad("complex numbers", IMAGE.to(torch.complex64), "image", "complex64"),
            bad("float8", IMAGE.to(torch.float8_e4m3fn), "image", "float8_e4m3fn"),
        ],
    )
    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    def test_other_things_than_images_are_refused(self, mode, image, told):
        with refused(*told):
            warp(image, STILL, mode=mode)
        with refused(*told):
            RandomAffine(15, mode=mode)(image)

    @pytest.mark.parametrize(
        ("image", "told"),
        [
            bad("sides exchanged", torch.zeros(2, 1, 5, 4), "image", "(5, 4)", "(4, 5)", "transform.at"),
            bad("half the size", torch.zeros(2, 1, 2, 3), "image", "(2, 3)", "(4, 5)", "transform.at"),
            bad("no rows", torch.zeros(2, 1, 0, 5), "image", "(0, 5)"),
            bad("another batch", torch.zeros(3, 1, 4, 5), "image", "batch 3", "2"),
            bad("another device", IMAGE.to("meta"), "image", "meta", "cpu", "transform.to('meta')"),
        ],
    )
    def test_images_that_do_not_fit_the_transform_are_refused(self, image, told):
        with refused(*told):
            warp(image, STILL)

    def test_an_image_of_pil_is_refused(self):
        pillow = pytest.importorskip("PIL.Image")
        with refused("image", "Tensor", "Image"):
            warp(pillow.new("RGB", (5, 4)), STILL)

    @pytest.mark.parametrize("transform", [STILL.matrix, None, np.eye(3)])
    def test_a_bare_matrix_in_place_of_a_transform_is_refused(self, transform):
        with refused("transform", "AffineTransform"):
            warp(IMAGE, transform)

    def test_a_transform_elsewhere_is_refused(self):
        with refused("cpu", "meta", "transform.to('cpu')"):
            warp(IMAGE, STILL.to("meta"))

    @pytest.mark.parametrize("sides", [(0, 5), (4, 0), (0, 0)])
    def test_frames_without_pixels_are_refused(self, sides):
        with refused("(H, W)", "at least 1", str(sides)):
            RandomAffine(15)(torch.zeros(2, 1, *sides))


class TestMasks:
    FULL = torch.ones(2, 1, *SIZE, dtype=torch.bool)

    @pytest.mark.parametrize(
        ("valid", "told"),
        [
            bad("numbers", FULL.float(), "valid", "bool", "[2, 1, 4, 5]", "float32"),
            bad("bytes", FULL.to(torch.uint8), "valid", "bool", "uint8"),
            bad("an array of numpy", FULL.numpy(), "valid", "Tensor", "ndarray"),
            bad("no channel axis", FULL[:, 0], "valid", "[2, 1, 4, 5]", "[2, 4, 5]"),
            bad("three channels", FULL.expand(2, 3, 4, 5), "valid", "[2, 1, 4, 5]", "[2, 3, 4, 5]"),
            bad("one sample for all", FULL[:1], "valid", "[2, 1, 4, 5]", "[1, 1, 4, 5]"),
            bad("sides exchanged", FULL.mT, "valid", "[2, 1, 4, 5]", "[2, 1, 5, 4]"),
            bad("another device", FULL.to("meta"), "valid", "meta", "cpu", "move"),
        ],
    )
    def test_other_masks_are_refused(self, valid, told):
        with refused(*told):
            warp(IMAGE, STILL, valid=valid)
        with refused(*told):
            RandomAffine(15)(IMAGE, valid=valid)


class TestChoices:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            bad("mode", {"mode": "linear"}, "mode", "bilinear", "'linear'"),
            bad("no mode", {"mode": None}, "mode", "bilinear", "None"),
            bad("padding", {"padding": "zeros"}, "padding", "border", "'zeros'"),
            bad("dtype of interpolated pixels", {"dtype": torch.uint8}, "dtype", "floating", "uint8"),
            bad("a complex dtype", {"dtype": torch.complex64}, "dtype", "floating", "complex64"),
            bad("an 8-bit float", {"dtype": torch.float8_e5m2}, "dtype", "float8_e5m2"),
            bad("a dtype by name", {"dtype": "float32"}, "dtype", "torch.dtype", "'float32'"),
        ],
    )
    def test_unknown_choices_are_refused_with_those_there_are(self, options, told):
        with refused(*told):
            warp(IMAGE, STILL, **options)

    @pytest.mark.parametrize("backend", ["cuda", "numpy", "", None])
    def test_an_unknown_backend_is_refused_with_those_there_are(self, backend):
        with refused("backend", repr(backend), "auto", "torch", builtin=RuntimeError):
            warp(IMAGE, STILL, backend=backend)

    @pytest.mark.parametrize(
        ("image", "fill", "told"),
        [
            pytest.param(image, fill, told, id=name)
            for name, image, fill, told in [
                ("above the bytes", LABELS, 256, ("uint8", "256")),
                ("below the bytes", LABELS, -1, ("uint8", "-1")),
                ("a fraction", LABELS, 0.5, ("uint8", "0.5")),
                ("NaN for bytes", LABELS, NAN, ("uint8", "nan")),
                ("infinity for bytes", LABELS, math.inf, ("uint8", "inf")),
                ("2 for bool", LABELS.bool(), 2, ("bool", "2")),
                ("beyond half precision", IMAGE.half(), 1e6, ("float16", "1000000")),
                ("a word", IMAGE, "black", ("number", "'black'")),
            ]
        ],
    )
    def test_a_fill_that_the_output_cannot_hold_is_refused(self, image, fill, told):
        with refused("fill", *told):
            warp(image, STILL, mode="nearest", fill=fill)

    @pytest.mark.parametrize(
        ("normalize", "told"),
        [
            bad("too many means", ([0.0, 0.0], [1.0]), "normalize mean", "1", "2"),
            bad("too few deviations", ([0.0], []), "normalize std", "1", "0"),
            bad("numbers of another rank", (torch.zeros(1, 1), torch.ones(1)), "normalize mean", "[1, 1]"),
            bad("plain numbers", (0.5, 0.5), "normalize", "mean", "0.5"),
            bad("one number", 0.5, "normalize", "mean", "0.5"),
            bad("a deviation of zero", ([0.0], [0.0]), "normalize std", "0"),
            bad("a deviation that is no number", ([0.0], [NAN]), "normalize std", "nan"),
            bad("a mean that is no number", ([NAN], [1.0]), "normalize mean", "nan"),
            bad("another device", (torch.zeros(1, device="meta"), torch.ones(1)), "normalize mean", "meta", "cpu"),
        ],
    )
    def test_other_statistics_are_refused(self, normalize, told):
        with refused(*told):
            warp(IMAGE, STILL, normalize=normalize)


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


class TestDraws:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            bad("degrees below 0", {"degrees": -5}, "degrees", "negative", "-5"),
            bad("degrees upside down", {"degrees": (10, -10)}, "degrees", "(low, high)", "(10, -10)"),
            bad("degrees NaN", {"degrees": NAN}, "degrees", "finite", "nan"),
            bad("degrees infinite", {"degrees": math.inf}, "degrees", "finite", "inf"),
            bad("degrees a word", {"degrees": "some"}, "degrees", "number", "some"),
            bad("translate one number", {"translate": 0.2}, "translate", "tuple", "0.2"),
            bad("translate in px", {"translate": (20, 20)}, "translate", "[0, 1]", "(20, 20)"),
            bad("translate NaN", {"translate": (NAN, 0.1)}, "translate", "nan"),
            bad("scale one number", {"scale": 1.5}, "scale", "tuple", "1.5"),
            bad("scale upside down", {"scale": (1.25, 0.75)}, "scale", "(low, high)", "(1.25, 0.75)"),
            bad("scale from 0", {"scale": (0.0, 1.0)}, "scale", "positive", "(0.0, 1.0)"),
            bad("scale below 0", {"scale": (-1.0, 1.0)}, "scale", "positive", "(-1.0, 1.0)"),
            bad("scale y upside down", {"scale": (1, 1, 2, 1)}, "scale", "(low, high)", "(2, 1)"),
            bad("shear of 90 degrees", {"shear": 90}, "shear", "below 90", "90"),
            bad("shear upside down", {"shear": (5, -5)}, "shear", "(low, high)", "(5, -5)"),
            bad("shear of three", {"shear": (1, 2, 3)}, "shear", "(1, 2, 3)"),
            bad("a rate above 1", {"hflip": 1.5}, "hflip", "[0, 1]", "1.5"),
            bad("a rate that is no number", {"vflip": NAN}, "vflip", "[0, 1]", "nan"),
        ],
    )
    def test_ranges_upside_down_and_other_nonsense_are_refused(self, arguments, told):
        with refused(*told):
            AffineRanges(**arguments)
        with refused(*told):
            RandomAffine(**arguments)

    @pytest.mark.parametrize("options", [{"fill": "black"}, {"mode": "cubic"}, {"padding": "zeros"}])
    def test_what_no_warp_could_take_is_refused_when_made(self, options):
        ((name, value),) = options.items()
        with refused(name, repr(value)):
            RandomAffine(15, **options)

    @pytest.mark.parametrize("number", [np.float64(15), np.float32(15), np.int64(15)])
    def test_numbers_of_numpy_are_numbers(self, number):
        assert RandomAffine(degrees=number).ranges.bounds()[0] == (-15, 15)

    @pytest.mark.parametrize(
        ("seed", "told"),
        [
            bad("too many", torch.arange(3), "int64", "[2]", "[3]"),
            bad("one for all", torch.tensor(3), "int64", "[2]", "[]"),
            bad("a column", torch.zeros(2, 1, dtype=torch.int64), "[2]", "[2, 1]"),
            bad("32 bits", torch.arange(2, dtype=torch.int32), "int64", "int32"),
            bad("fractions", torch.rand(2), "int64", "float32"),
            bad("a number", 3, "int64", "Tensor", "int"),
            bad("a list", [1, 2], "int64", "Tensor", "list"),
            bad("an array of numpy", np.arange(2), "int64", "Tensor", "ndarray"),
        ],
    )
    @pytest.mark.parametrize("same_on_batch", [False, True])
    def test_other_seeds_are_refused(self, same_on_batch, seed, told):
        with refused("seed", *told):
            RandomAffine(15, same_on_batch=same_on_batch)(IMAGE, seed=seed)
        if not same_on_batch:
            with refused("seed", *told):
                sample_affine(AffineRanges(15), 2, SIZE, seed=seed)

    @pytest.mark.parametrize(
        ("call", "told"),
        [
            bad(
                "both sources",
                lambda: sample_affine(AffineRanges(), 2, SIZE, seed=torch.arange(2), generator=torch.Generator()),
                "generator and seed exclude each other",
            ),
            bad(
                "a shared transform of another size",
                lambda: RandomAffine(15)(IMAGE, shared=AffineTransform.hflip(2, (5, 4))),
                "(4, 5)",
                "(5, 4)",
            ),
            bad(
                "a shared transform of another batch",
                lambda: RandomAffine(15)(IMAGE, shared=AffineTransform.hflip(3, SIZE)),
                "batch 2",
                "3",
            ),
            bad("a shared matrix", lambda: RandomAffine(15)(IMAGE, shared=torch.eye(3)), "shared", "AffineTransform"),
        ],
    )
    def test_bad_draws_are_refused(self, call, told):
        with refused(*told):
            call()


class TestViews:
    VIEW = View.of(IMAGE, STILL)

    @pytest.mark.parametrize(
        ("prediction", "told"),
        [
            bad("another aspect", torch.zeros(2, 3, 5, 4), "(4, 5)", "(5, 4)", "aspects differ"),
            bad("half of one side", torch.zeros(2, 3, 2, 5), "(4, 5)", "(2, 5)", "aspects differ"),
            bad("no pixels", torch.zeros(2, 3, 0, 0), "prediction", "(0, 0)"),
            bad("no columns", torch.zeros(2, 3, 4, 0), "(4, 0)"),
            bad("another batch", torch.zeros(3, 1, 4, 5), "prediction", "batch 3", "2"),
            bad("no classes", torch.zeros(2, 4, 5), "prediction", "[B, C, H, W]", "[2, 4, 5]"),
            bad("a row", torch.zeros(5), "prediction", "[B, C, H, W]", "[5]"),
            bad("a number", torch.tensor(1.0), "prediction", "[B, C, H, W]", "[]"),
            bad("an array of numpy", np.zeros((2, 3, 4, 5)), "prediction", "Tensor", "ndarray"),
            bad("nothing", None, "prediction", "Tensor", "None"),
            bad("another device", torch.zeros(2, 3, 4, 5, device="meta"), "prediction", "meta", "cpu"),
            bad("complex numbers", torch.zeros(2, 3, 4, 5, dtype=torch.complex64), "prediction", "complex64"),
        ],
    )
    def test_predictions_that_no_view_could_have_made_are_refused(self, prediction, told):
        with refused(*told):
            self.VIEW.restore(prediction)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            bad("mode", {"mode": "linear"}, "mode", "'linear'"),
            bad("fill", {"fill": "black"}, "fill", "number", "'black'"),
            bad("stride", {"stride": 2}, "(4, 5)"),
        ],
    )
    def test_bad_options_of_the_way_back_are_refused(self, options, told):
        with refused(*told):
            self.VIEW.restore(torch.zeros(2, 3, *SIZE), **options)

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            bad("validity of another size", lambda v: View(IMAGE, v[..., :3], STILL), "valid", "[2, 1, 4, 5]"),
            bad("validity in numbers", lambda v: View(IMAGE, v.float(), STILL), "valid", "bool", "float32"),
            bad("an image of another size", lambda v: View(IMAGE[..., :3], v, STILL), "image", "(4, 3)", "(4, 5)"),
            bad("an unknown mode", lambda v: View(IMAGE, v, STILL, "cubic"), "mode", "'cubic'"),
            bad("a matrix", lambda v: View(IMAGE, v, STILL.matrix), "transform", "AffineTransform"),
        ],
    )
    def test_a_view_whose_parts_do_not_fit_is_refused_when_made(self, make, told):
        with refused(*told):
            make(torch.ones(2, 1, *SIZE, dtype=torch.bool))


class TestLosses:
    VIEW = View.of(IMAGE, STILL)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            bad("loss", {"loss": "l1"}, "loss", "mse, kl", "'l1'"),
            bad("classes", {"classes": "max"}, "classes", "mean, sum", "'max'"),
            bad("activation", {"activation": "sigmoid"}, "activation", "'softmax' or None", "'sigmoid'"),
            bad("side 0", {"detach": 0}, "detach", "None, 1 or 2", "0"),
            bad("a side that is true", {"detach": True}, "detach", "None, 1 or 2", "True"),
        ],
    )
    def test_unknown_choices_are_refused_with_those_there_are(self, options, told):
        with refused(*told):
            consistency_loss(IMAGE, self.VIEW, IMAGE, self.VIEW, **options)

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            bad("shapes that differ", {"pred2": IMAGE[:1]}, "pred1", "pred2", "[2, 1, 4, 5]", "[1, 1, 4, 5]"),
            bad("no classes", {"pred1": IMAGE[:, 0], "pred2": IMAGE[:, 0]}, "[B, C, H, W]", "[2, 4, 5]"),
            bad("an array of numpy", {"pred1": IMAGE.numpy()}, "pred1", "Tensor", "ndarray"),
            bad("devices that differ", {"pred2": IMAGE.to("meta")}, "meta", "cpu"),
            bad(
                "complex numbers",
                {"pred1": IMAGE.to(torch.complex64), "pred2": IMAGE.to(torch.complex64)},
                "complex64",
            ),
            bad("a warped image in place of a view", {"view2": warp(IMAGE, STILL)}, "view2", "View", "Warped"),
            bad(
                "views of images of other sizes",
                {"view2": View(IMAGE, VIEW.valid, AffineTransform(STILL.matrix, (6, 6), SIZE))},
                "view1",
                "view2",
                "(4, 5)",
                "(6, 6)",
            ),
        ],
    )
    def test_predictions_and_views_that_do_not_go_together_are_refused(self, changed, told):
        arguments = {"pred1": IMAGE, "view1": self.VIEW, "pred2": IMAGE, "view2": self.VIEW, **changed}
        with refused(*told):
            consistency_loss(**arguments)
