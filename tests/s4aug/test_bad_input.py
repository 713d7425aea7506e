"""What is wrong with a call is told in one line: the argument, what was expected, what came, and the cure."""

import math

import numpy as np
import pytest
import torch

from s4aug import ArgumentError, BackendUnavailable, RandomAffine, warp
from tests.s4aug.bad_input_cases import IMAGE, LABELS, NAN, SIZE, STILL, bad, refused


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
