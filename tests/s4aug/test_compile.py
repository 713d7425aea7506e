import os
import shutil

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from s4aug import AffineTransform, RandomAffine, View, consistency_terms, warp

SIZE = (24, 32)
BATCH = 2
MEAN_STD = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))

CASES = {
    "bilinear, masked, normalised": {"masked": True, "normalize": MEAN_STD},
    "nearest": {"mode": "nearest"},
    "bicubic, stride 4": {"mode": "bicubic", "stride": 4},
    "lifting": {"mode": "lifting"},
    "global generator, stride 4, kl": {"seeded": False, "stride": 4, "loss": "kl"},
}


def training_step(*, mode="bilinear", stride=1, masked=False, normalize=None, seeded=True, loss="mse"):
    """Sample, warp, predict, restore and compare, as a function of tensors alone."""
    scale = None if mode == "lifting" else (0.8, 1.2)
    perturb = RandomAffine(20, (0.05, 0.05), scale, hflip=0.5)

    def step(images, weight, seed, valid):
        pairs = []
        for number in range(2):
            motion = perturb.sample(BATCH, SIZE, seed=seed + number if seeded else None)
            view = View.of(images, motion, valid=valid if masked else None, mode=mode, normalize=normalize)
            pairs += [nn.functional.conv2d(view.image, weight, stride=stride, padding=int(stride == 1)), view]
        terms = consistency_terms(*pairs, loss=loss)
        return terms.loss, terms.count

    return step


def arguments(stride=1, number=0):
    generator = torch.Generator().manual_seed(number)
    images = torch.rand(BATCH, 3, *SIZE, generator=generator)
    # Wider than a pixel: what lifting undoes is the same to the bit, and a loss of 0 would show nothing.
    side = max(stride, 3)
    weight = torch.randn(4, 3, side, side, generator=generator)
    valid = torch.rand(BATCH, 1, *SIZE, generator=generator) < 0.97
    return images, weight, torch.tensor([number, -5]), valid


def outcome(step, images, weight, seed, valid):
    """Loss, count and both gradients, all from one global state."""
    images, weight = images.clone().requires_grad_(), weight.clone().requires_grad_()
    torch.manual_seed(7)
    loss, count = step(images, weight, seed, valid)
    loss.backward()
    return loss.detach(), count, images.grad, weight.grad


def assert_compiles_to_the_same(backend, options):
    torch.compiler.reset()
    step = training_step(**options)
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    # The second call has other numbers and the same shapes: one compilation is to serve all steps of a training.
    for number, recompiling_fails in ((0, False), (1, True)):
        given = arguments(options.get("stride", 1), number)
        with torch._dynamo.config.patch(error_on_recompile=recompiling_fails):
            made = outcome(compiled, *given)
        expected = outcome(step, *given)
        assert expected[0] > 1e-4
        assert expected[1] > 10
        assert expected[2].abs().sum() > 1e-3
        assert_close(made, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_step_compiles_whole_with_the_values_and_gradients_of_eager(options):
    assert_compiles_to_the_same("aot_eager", options)


@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="the default compiler of torch needs a C++ compiler"
)
def test_a_step_compiles_by_the_default_compiler_with_the_values_and_gradients_of_eager():
    assert_compiles_to_the_same("inductor", {})


def test_the_comparison_sees_a_compilation_gone_wrong():
    def wrong(graph, _):
        # The last but one output of the graph, the loss, is doubled.
        (output,) = (node for node in graph.graph.nodes if node.op == "output")
        loss, count = output.args[0]
        with graph.graph.inserting_before(output):
            output.args = ((graph.graph.call_function(torch.mul, (loss, 2)), count),)
        graph.recompile()
        return graph.forward

    with pytest.raises(AssertionError):
        assert_compiles_to_the_same(wrong, {"mode": "nearest"})


def test_a_step_is_one_graph_without_breaks():
    torch.compiler.reset()
    explained = torch._dynamo.explain(training_step())(*arguments())
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_the_count_of_breaks_sees_one():
    def broken(image):
        torch._dynamo.graph_break()
        return image + 1

    torch.compiler.reset()
    assert torch._dynamo.explain(lambda image: broken(image * 2))(torch.ones(3)).graph_break_count > 0


class Fixed(nn.Module):
    """A warp by a transform that the module holds."""

    def __init__(self, transform, mode):
        super().__init__()
        self.transform = transform
        self.mode = mode

    def forward(self, images):
        return tuple(warp(images, self.transform, mode=self.mode))


class ThereAndBack(nn.Module):
    """A view by a matrix that is an input, and the way back."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def forward(self, images, matrix):
        view = View.of(images, AffineTransform(matrix, SIZE), mode=self.mode)
        return view.image, view.valid, *view.restore(view.image)


def motions(number):
    return RandomAffine(30, (0.1, 0.1), hflip=0.5).sample(BATCH, SIZE, seed=torch.tensor([number, 7]))


@pytest.mark.parametrize(
    ("kind", "mode", "strict"),
    [
        ("fixed", "bilinear", True),
        ("fixed", "nearest", False),
        ("fixed", "bicubic", False),
        ("fixed", "lifting", False),
        ("input", "bilinear", False),
        ("input", "nearest", True),
        ("input", "lifting", False),
    ],
)
def test_an_exported_warp_equals_eager_on_other_inputs(kind, mode, strict):
    module = Fixed(motions(1), mode) if kind == "fixed" else ThereAndBack(mode)
    first, other = (arguments(number=number)[0] for number in (0, 1))
    matrices = [motions(number).matrix for number in (2, 3)] if kind == "input" else []
    exported = torch.export.export(module, (first, *matrices[:1]), strict=strict).module()
    made, expected = exported(other, *matrices[1:]), module(other, *matrices[1:])
    assert len(made) == len(expected)
    assert 0 < expected[1].double().mean() < 1
    for mine, theirs in zip(made, expected, strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(made[0], exported(first, *matrices[1:])[0])
