"""Gradients of a warp."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from s4aug import AffineTransform, View, warp
from tests.s4aug.motions import general
from tests.s4aug.pixels import MODES, PADDINGS


def gradient_case(batch, channels, size, seed=0):
    """A float64 image, its mask and a motion away from the lattice (where bilinear has kinks)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64).requires_grad_()
    mask = torch.rand(batch, 1, *size, generator=generator) < 0.9
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    parameters = {
        "angle": 40 + 10 * random[:, 0],
        "translation": 0.4 * random[:, 1:3] - 0.2,
        "scale": 0.9 + 0.3 * random[:, 3:5],
        "shear": 10 * random[:, 5:7],
    }
    return image, mask, {name: value.requires_grad_() for name, value in parameters.items()}


SHAPES = [(1, 1, (4, 5)), (2, 3, (3, 2)), (1, 2, (1, 1)), (2, 1, (1, 4)), (0, 2, (3, 4))]


class TestGradients:
    @pytest.mark.parametrize(("batch", "channels", "size"), SHAPES)
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_first_and_second_gradient_of_the_image(self, mode, padding, batch, channels, size):
        image, mask, parameters = gradient_case(batch, channels, size)
        t = AffineTransform.from_params(**{k: v.detach() for k, v in parameters.items()}, size=size)

        def moved(image):
            return warp(
                image, t, valid=mask, mode=mode, padding=padding, normalize=([0.5] * channels, [2.0] * channels)
            ).image

        assert gradcheck(moved, image)
        assert gradgradcheck(moved, image)

    @pytest.mark.parametrize(("batch", "channels", "size"), SHAPES)
    @pytest.mark.parametrize("padding", PADDINGS)
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_gradient_of_the_parameters_and_of_the_matrix(self, mode, padding, batch, channels, size):
        image, mask, parameters = gradient_case(batch, channels, size)

        def moved(image, *values):
            t = AffineTransform.from_params(**dict(zip(parameters, values, strict=True)), size=size)
            return warp(image, t, valid=mask, mode=mode, padding=padding, fill=0.3).image

        assert gradcheck(moved, (image, *parameters.values()))
        matrix = AffineTransform.from_params(**parameters, size=size).matrix[:, :2].detach().requires_grad_()

        def moved_by(image, top):
            bottom = top.new_tensor([0.0, 0.0, 1.0]).expand(len(top), 1, 3)
            t = AffineTransform(torch.cat([top, bottom], 1), size)
            return warp(image, t, valid=mask, mode=mode, padding=padding, fill=0.3).image

        assert gradcheck(moved_by, (image, matrix))

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    def test_float32_gradients_are_those_of_float64(self, mode):
        image, mask, parameters = gradient_case(2, 3, (9, 7))
        grads = []
        for dtype in (torch.float64, torch.float32):
            t = AffineTransform.from_params(**parameters, size=(9, 7))
            warped, _ = warp(image.to(dtype), t, valid=mask, mode=mode)
            weight = torch.linspace(-1, 1, warped.numel(), dtype=dtype).reshape(warped.shape)
            grads.append(torch.autograd.grad((warped * weight).sum(), [image, *parameters.values()]))
        for double, single in zip(*grads, strict=True):
            assert double.abs().sum() > 0
            assert_close(single, double, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_an_even_picture_has_no_slope_on_the_lattice_either(self, mode, dtype):
        image = torch.full((1, 1, 5, 5), 3.0, dtype=dtype)
        for shift in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.25)):
            xy = torch.tensor([shift], dtype=torch.float64, requires_grad=True)
            t = AffineTransform.from_params(translation=xy, size=(5, 5))
            warp(image, t, mode=mode, padding="border").image.sum().backward()
            assert_close(xy.grad, torch.zeros_like(xy.grad), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_slope_at_the_identity_is_the_forward_difference_of_what_may_be_read(self, dtype, rng):
        image = torch.rand(1, 1, 4, 6, generator=rng, dtype=dtype)
        mask = torch.ones(1, 1, 4, 6, dtype=torch.bool)
        mask[0, 0, 2, 2] = False
        image[0, 0, 2, 2] = torch.nan
        t = AffineTransform.from_params(translation=torch.zeros(1, 2).double().requires_grad_(), size=(4, 6))
        matrix = t.matrix.detach().requires_grad_()
        warped, valid = warp(image, AffineTransform(matrix, (4, 6)), valid=mask, fill=-1.0)
        # The neighbours that tell the slope are not read for the value.
        assert torch.equal(valid, mask)
        assert_close(warped, torch.where(mask, image, -1.0), rtol=0, atol=0)
        for y in range(4):
            for x in range(6):
                if not mask[0, 0, y, x]:
                    continue
                (grad,) = torch.autograd.grad(warped[0, 0, y, x], matrix, retain_graph=True)
                told = x + 1 < 6 and mask[0, 0, y, x + 1]
                slope = image[0, 0, y, x + 1] - image[0, 0, y, x] if told else torch.zeros((), dtype=dtype)
                # The source coordinate falls as the shift grows.
                assert_close(grad[0, 0, 2], -slope.double(), rtol=1e-5, atol=1e-6)

    def test_a_motion_that_begins_at_the_identity_is_learned(self, rng):
        yy, xx = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        image = (torch.sin(xx / 4) + torch.cos(yy / 5))[None, None]
        goal = warp(image, AffineTransform.from_params(translation=(1.4, -0.8), size=(24, 24)))
        shift = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=0.1)
        for _ in range(80):
            moved = warp(image, AffineTransform.from_params(translation=shift, size=(24, 24)))
            loss = torch.where(moved.valid & goal.valid, moved.image - goal.image, 0).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert_close(shift.detach(), torch.tensor([[1.4, -0.8]], dtype=torch.float64), atol=0.05, rtol=0)

    def test_labels_carry_no_gradient_to_the_matrix(self):
        matrix = torch.eye(3, dtype=torch.float64)[None].requires_grad_()
        warped, _ = warp(torch.ones(1, 1, 3, 3), AffineTransform(matrix, (3, 3)), mode="nearest")
        assert not warped.requires_grad

    def test_the_gradient_of_a_round_trip_reaches_the_image(self, rng):
        image = torch.rand(1, 2, 6, 6, generator=rng, dtype=torch.float64).requires_grad_()
        t = general(1, (6, 6), rng)

        def round_trip(image):
            view = View.of(image, t)
            return view.restore(view.image).image

        assert gradcheck(round_trip, image)


class TestGradientsOfTheRest:
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("name", ["angle", "translation", "scale", "shear", "center"])
    def test_each_parameter_alone_with_a_mask_on_a_frame_that_is_not_square(self, name, mode, rng):
        image, mask, parameters = gradient_case(2, 2, (3, 5))
        parameters["center"] = torch.rand(2, 2, generator=rng, dtype=torch.float64) + 1
        fixed = {key: value.detach() for key, value in parameters.items() if key != name}

        def moved(value):
            t = AffineTransform.from_params(**fixed, **{name: value}, size=(3, 5))
            t = AffineTransform(t.matrix, (3, 5), (4, 6))
            return warp(image.detach(), t, valid=mask, mode=mode, padding="border").image

        value = parameters[name].detach().requires_grad_()
        (grad,) = torch.autograd.grad(moved(value).square().sum(), value)
        assert grad.abs().min() > 0
        assert gradcheck(moved, value)

    @pytest.mark.parametrize("numbers", ["mean", "std"])
    def test_of_the_statistics(self, numbers, rng):
        image, mask, parameters = gradient_case(1, 2, (3, 5))
        t = AffineTransform.from_params(**{k: v.detach() for k, v in parameters.items()}, size=(3, 5))
        given = torch.tensor([0.4, 1.3], dtype=torch.float64).requires_grad_()
        other = torch.tensor([0.7, 1.1], dtype=torch.float64)

        def moved(image, given):
            normalize = (given, other) if numbers == "mean" else (other, given)
            return warp(image, t, valid=mask, normalize=normalize).image

        assert gradcheck(moved, (image, given))
