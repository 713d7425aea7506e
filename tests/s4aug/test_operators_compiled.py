"""Warps compiled, exported, in inference mode and under autocast show the bits of eager ones."""

import pytest
import torch
from torch import nn

from s4aug import AffineTransform, warp
from tests.s4aug.operators_cases import MODES, SIZE, SMOOTH, mask, random, turned

pytest.importorskip("numba")


def step(mode, backend="numba"):
    """A warp and its gradients as a function of tensors."""

    def run(image, matrix, valid):
        shown, real = warp(
            image,
            AffineTransform(matrix, SIZE),
            valid=valid,
            mode=mode,
            normalize=([0.5] * 3, [0.2] * 3),
            backend=backend,
        )
        return shown, real, (shown**2).mean()

    return run


def outcome(run, image, matrix, valid, mode):
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    matrix = matrix.clone().requires_grad_(mode in SMOOTH)
    shown, real, loss = run(image, matrix, valid)
    loss.backward()
    return shown.detach(), real, image.grad, matrix.grad if mode in SMOOTH else torch.zeros(1)


class TestTransforms:
    @pytest.mark.parametrize("backend", ["numba", "auto"])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_warp_compiles_whole_to_the_bits_of_eager(self, mode, backend):
        torch.compiler.reset()
        run = step(mode, backend)
        compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
        for seed in (0, 1):
            image = random(2, 3, *SIZE, seed=seed).contiguous(memory_format=torch.channels_last)
            made = outcome(compiled, image, turned().matrix, mask(), mode)
            expected = outcome(run, image, turned().matrix, mask(), mode)
            assert expected[2].abs().sum() > 1e-3
            assert 0 < expected[1].double().mean() < 1
            for mine, theirs in zip(made, expected, strict=True):
                assert torch.equal(mine, theirs)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    @pytest.mark.parametrize("mode", MODES)
    def test_autocast_changes_neither_type_nor_bits(self, mode, dtype):
        image = random(2, 3, *SIZE).to(dtype)
        plain = outcome(step(mode), image, turned().matrix, mask(), mode)
        with torch.autocast("cpu", torch.bfloat16):
            cast = outcome(step(mode), image, turned().matrix, mask(), mode)
        assert cast[0].dtype == dtype
        for mine, theirs in zip(cast, plain, strict=True):
            assert torch.equal(mine, theirs)

    def test_a_module_is_called_with_other_parameters(self):
        class Moving(nn.Module):
            def __init__(self):
                super().__init__()
                self.matrix = nn.Parameter(turned().matrix.clone())
                self.lift = nn.Conv2d(3, 4, 1)

            def forward(self, image):
                return warp(self.lift(image), AffineTransform(self.matrix, SIZE), backend="numba").image

        module, other, image = Moving(), Moving(), random(2, 3, *SIZE)
        with torch.no_grad():
            other.matrix[:, 0, 2] += 1
        parameters = {name: value.detach().clone().requires_grad_() for name, value in other.named_parameters()}
        shown = torch.func.functional_call(module, parameters, image)
        expected = other(image)
        assert torch.equal(shown, expected)
        assert not torch.equal(shown, module(image))
        shown.sum().backward()
        expected.sum().backward()
        for name, value in other.named_parameters():
            assert torch.equal(parameters[name].grad, value.grad)
            assert value.grad.any()

    @pytest.mark.parametrize("mode", MODES)
    def test_an_exported_warp_shows_the_bits_of_eager_on_other_inputs(self, mode):
        class Moving(nn.Module):
            def forward(self, image, matrix):
                return tuple(warp(image, AffineTransform(matrix, SIZE), mode=mode, backend="numba"))

        matrices = turned().matrix, AffineTransform.from_params(angle=torch.tensor([3.0, 81.0]), size=SIZE).matrix
        exported = torch.export.export(Moving(), (random(2, 3, *SIZE), matrices[0])).module()
        image = random(2, 3, *SIZE, seed=5)
        made, expected = exported(image, matrices[1]), Moving()(image, matrices[1])
        assert 0 < expected[1].double().mean() < 1
        for mine, theirs in zip(made, expected, strict=True):
            assert torch.equal(mine, theirs)
        assert not torch.equal(made[0], exported(image, matrices[0])[0])

    @pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("mode", MODES)
    def test_a_warp_without_gradient_shows_the_same(self, mode, without):
        image, matrix = random(2, 3, *SIZE).requires_grad_(), turned().matrix.clone().requires_grad_()
        plain = warp(image, AffineTransform(matrix, SIZE), mode=mode, backend="numba")
        with without():
            shown, real = warp(image, AffineTransform(matrix, SIZE), mode=mode, backend="numba")
            assert not shown.requires_grad
            assert torch.equal(shown, plain.image)
            assert torch.equal(real, plain.valid)

    def test_what_inference_made_can_be_warped_after_it(self):
        with torch.inference_mode():
            image = random(2, 3, *SIZE)
        assert torch.equal(
            warp(image, turned(), backend="numba").image, warp(image.clone(), turned(), backend="torch").image
        )
