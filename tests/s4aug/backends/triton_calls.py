"""Public calls on Triton's kernels, interpreted on the CPU, against the reference: for `test_triton.py`.

By hand: `TRITON_INTERPRET=1 pytest tests/s4aug/backends/triton_calls.py`.
"""

import pytest
import torch
from torch.testing import assert_close

from s4aug import AffineTransform, BackendUnavailable, RandomAffine, View, consistency_terms, kernels, warp
from tests.s4aug.backends.triton_cases import INTERPRETED, OLD_TRITON

pytestmark = [pytest.mark.skipif(not INTERPRETED, reason="not interpreted"), OLD_TRITON]
SIZE = (5, 4)
SMOOTH = ("bilinear", "bicubic")


@pytest.fixture(autouse=True)
def triton_on_the_cpu(monkeypatch):
    monkeypatch.setitem(kernels.KERNELS, "cpu", "triton")


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def turned():
    angle, translation = torch.tensor([17.0, -110.0]), torch.tensor([[0.31, -0.83], [1.37, 0.41]])
    return AffineTransform.from_params(angle=angle, translation=translation, size=SIZE)


def outcome(backend, image, matrix, mode, **options):
    """Values, validity, first derivatives, and the second one in the image."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    matrix = matrix.clone().requires_grad_(mode in SMOOTH)
    shown, real = warp(image, AffineTransform(matrix, SIZE), mode=mode, backend=backend, **options)
    leaves = [image, *([matrix] if mode in SMOOTH else [])]
    first = torch.autograd.grad((shown.float() ** 3).sum(), leaves, create_graph=True)
    (second,) = torch.autograd.grad((first[0].float() ** 2).sum(), image)
    return shown.detach(), real, *(gradient.detach() for gradient in first), second


@pytest.mark.parametrize("rich", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", pytest.param("bicubic", marks=pytest.mark.slow), "lifting"])
def test_a_warp_and_its_derivatives_are_those_of_the_reference(mode, rich):
    image, options = random(2, 3, *SIZE), {}
    if rich:
        image = image.contiguous(memory_format=torch.channels_last)
        options = {
            "valid": random(2, 1, *SIZE, seed=3) < 0.96,
            "normalize": ([0.5] * 3, [0.3] * 3),
            "padding": "border",
        }
    made, expected = (outcome(name, image, turned().matrix, mode, **options) for name in ("triton", "torch"))
    assert expected[-1].abs().max() > 0.1
    assert torch.equal(made[1], expected[1])
    for mine, theirs in zip(made, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.float().abs().max()))


def test_narrow_pixels_and_auto():
    for dtype in (torch.bfloat16, torch.float16):
        image = random(2, 3, *SIZE).to(dtype).requires_grad_()
        shown = warp(image, turned()).image
        shown.sum().backward()
        assert shown.dtype == image.grad.dtype == dtype
        other = image.detach().clone().requires_grad_()
        expected = warp(other, turned(), backend="torch").image
        expected.sum().backward()
        limit = 2 * torch.finfo(dtype).eps
        assert_close(shown, expected, rtol=limit, atol=limit)
        assert_close(image.grad, other.grad, rtol=limit, atol=4 * limit)


def test_float64_is_refused_by_name_and_taken_by_the_reference_otherwise():
    image = random(2, 3, *SIZE).double()
    with pytest.raises(
        BackendUnavailable, match="'triton' computes in float32, not in float64; take 'auto' or 'torch'"
    ):
        warp(image, turned(), backend="triton")
    assert torch.equal(warp(image, turned()).image, warp(image, turned(), backend="torch").image)


def objective(backend, dtype, **options):
    images = random(2, 1, *SIZE)
    views = [View.of(images, turned()), View.of(images, turned().inverse())]
    leaves = [(3 * random(2, 4, *SIZE, seed=i) - 1).to(dtype).requires_grad_() for i in (1, 2)]
    terms = consistency_terms(leaves[0], views[0], leaves[1], views[1], backend=backend, **options)
    terms.numerator.backward()
    return terms.numerator.detach(), terms.count, *(leaf.grad for leaf in leaves if leaf.grad is not None)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.float32),
        ({"loss": "kl", "mask": False}, torch.float32),
        ({"loss": "kl", "detach": 1}, torch.bfloat16),
        ({"activation": None, "classes": "sum", "detach": 2}, torch.float32),
        ({}, torch.float64),
    ],
    ids=["mse", "kl without mask", "kl from one side", "as they are", "float64, composed"],
)
def test_the_objective_and_its_gradients_are_those_of_the_reference(options, dtype):
    made, expected = (objective(name, dtype, **options) for name in ("auto", "torch"))
    assert expected[0] > 0
    assert torch.equal(made[1], expected[1])
    limit = 8e-3 if dtype == torch.bfloat16 else 1e-5
    assert len(made) == len(expected) == 4 - ("detach" in options)
    for mine, theirs in zip(made, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert_close(mine, theirs, rtol=limit, atol=limit * float(theirs.float().abs().max()))


@pytest.mark.slow
def test_a_step_compiles_whole_to_the_bits_of_eager():
    perturb, weight = RandomAffine(20, (0.05, 0.05), (0.8, 1.2)), random(3, 2, 3, 3)

    def step(images, weight, seed):
        pairs = []
        for number in range(2):
            view = perturb(images, seed=seed + number)
            pairs += [torch.nn.functional.conv2d(view.image, weight, padding=1), view]
        return consistency_terms(*pairs, backend="triton").loss

    made = []
    for run in (step, torch.compile(step, backend="aot_eager", fullgraph=True)):
        leaf = weight.clone().requires_grad_()
        loss = run(random(2, 2, 9, 8), leaf, torch.tensor([1, 2]))
        loss.backward()
        made.append((loss.detach(), leaf.grad))
    assert made[0][0] > 0
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*made, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_shapes_and_strides_are_those_that_compilers_are_told():
    from s4aug.transform import coordinates

    operators, places, last = torch.ops.s4aug, coordinates(turned().inverse(), torch.float32), torch.channels_last
    image = random(2, 3, *SIZE).contiguous(memory_format=last)
    given = (
        image,
        turned().inverse().matrix[:, :2],
        places,
        None,
        None,
        None,
        "bilinear",
        "fill",
        0.5,
        torch.float32,
        *SIZE,
    )
    torch.library.opcheck(operators.warp.default, given, test_utils=("test_schema", "test_faketensor"))
    given = (image, None, places, None, None, "bilinear", "fill", torch.bfloat16, *SIZE)
    torch.library.opcheck(operators.warp_image_gradient.default, given, test_utils=("test_schema", "test_faketensor"))
    masks = [torch.ones(2, 1, *SIZE, dtype=torch.bool)] * 2
    given = (image, image * 2, places, places, *masks, "kl", True, 0, True, True, *SIZE)
    torch.library.opcheck(operators.consistency.default, given, test_utils=("test_schema", "test_faketensor"))
    given = (image, random(2, 3, *SIZE), places, None, torch.tensor(2.0), True)
    torch.library.opcheck(operators.consistency_gradient.default, given, test_utils=("test_schema", "test_faketensor"))
