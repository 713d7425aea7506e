"""What is wrong with a draw, a view or a loss is told in one line."""

import math

import numpy as np
import pytest
import torch

from s4aug import AffineRanges, AffineTransform, RandomAffine, View, consistency_loss, sample_affine, warp
from tests.s4aug.bad_input_cases import IMAGE, NAN, SIZE, STILL, bad, refused


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
