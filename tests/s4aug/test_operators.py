"""The fast backends as operators of torch: derivatives, what compilers are told, and what is kept."""

import gc
import weakref

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close

from s4aug import AffineTransform, warp
from s4aug.lifting import Lifting
from s4aug.transform import coordinates
from tests.s4aug.operators_cases import MODES, SIZE, SMOOTH, mask, random, turned

pytest.importorskip("numba")

OPERATORS = torch.ops.s4aug


def changed(options, image):
    """Options of a case by short names."""
    made = dict(options)
    if made.pop("masked", False):
        made["valid"] = mask(len(image), tuple(image.shape[-2:]))
    if made.pop("normalized", False):
        made["normalize"] = ([0.5] * image.shape[1], [0.3] * image.shape[1])
    return made


CASES = {
    f"{mode}, {padding}": {"mode": mode, "padding": padding, "masked": masked, "normalized": masked}
    for mode in MODES
    for padding, masked in (("fill", False), ("border", True), ("reflection", False))
}


class TestDerivatives:
    @pytest.mark.parametrize("options", CASES.values(), ids=CASES)
    def test_the_image_gradient_is_the_numerical_one_twice(self, options):
        image = random(2, 1, *SIZE, dtype=torch.float64).requires_grad_()
        given = changed(options, image)

        def shown(image):
            return warp(image, turned(), backend="numba", **given).image

        assert shown(image).abs().sum() > 1
        assert gradcheck(shown, (image,))
        assert gradgradcheck(shown, (image,), fast_mode=True)

    @pytest.mark.parametrize("options", [CASES[name] for name in CASES if name.startswith(SMOOTH)])
    def test_the_matrix_gradient_is_the_numerical_one(self, options):
        image = random(2, 2, *SIZE, dtype=torch.float64)
        given = changed(options, image)

        def shown(top, image):
            matrix = torch.cat([top, torch.tensor([0.0, 0, 1]).double().expand(2, 1, 3)], 1)
            return warp(image, AffineTransform(matrix, SIZE), backend="numba", **given).image

        top = turned().matrix[:, :2].clone().requires_grad_()
        assert gradcheck(shown, (top, image))
        assert gradcheck(shown, (top, image.requires_grad_()))

    @pytest.mark.parametrize("mode", MODES)
    def test_the_second_derivative_in_the_image_is_that_of_the_reference(self, mode):
        made = []
        for backend in ("numba", "torch"):
            image = random(2, 2, *SIZE).requires_grad_()
            shown = warp(
                image, turned(), mode=mode, fill=3.0, normalize=([0.1, 0.2], [0.5, 2.0]), backend=backend
            ).image
            (first,) = torch.autograd.grad((shown**3).sum(), image, create_graph=True)
            (second,) = torch.autograd.grad((first**2).sum(), image)
            made.append((first, second))
        assert made[1][1].abs().max() > 1
        assert_close(made[0], made[1], rtol=1e-4, atol=1e-3)

    # Both from within torch: of a decomposition that it scripts, and of a batch that it takes one by one.
    @pytest.mark.filterwarnings(
        "ignore:.*torch.jit.script.*is deprecated:FutureWarning", "ignore:There is a performance drop:UserWarning"
    )
    @pytest.mark.parametrize(
        "kind", ["forward mode", "jvp", "grad", "jacrev", "vmap", "image then matrix", "matrix twice"]
    )
    def test_other_derivatives_are_right_or_refused(self, kind):
        image = random(2, 2, *SIZE, dtype=torch.float64)

        def shown(image, matrix, backend):
            return warp(image, AffineTransform(matrix, SIZE), backend=backend).image

        def derivative(backend):
            matrix = turned().matrix.clone()
            if kind == "forward mode":
                with forward_ad.dual_level():
                    made = shown(forward_ad.make_dual(image, image + 1), matrix, backend)
                    tangent = forward_ad.unpack_dual(made).tangent
                    return torch.zeros_like(made) if tangent is None else tangent
            if kind == "jvp":
                return torch.func.jvp(lambda image: shown(image, matrix, backend), (image,), (image + 1,))[1]
            if kind == "grad":
                return torch.func.grad(lambda image: (shown(image, matrix, backend) ** 2).sum())(image)
            if kind == "jacrev":
                return torch.func.jacrev(lambda image: shown(image, matrix, backend).sum((2, 3)))(image)
            if kind == "vmap":
                return torch.vmap(lambda image: shown(image, matrix, backend))(torch.stack([image, image + 1]))
            source, matrix = image.clone().requires_grad_(kind == "image then matrix"), matrix.requires_grad_()
            loss = (shown(source, matrix, backend) ** 2).sum()
            (first,) = torch.autograd.grad(loss, source if source.requires_grad else matrix, create_graph=True)
            return torch.autograd.grad((first**2).sum(), matrix)[0]

        expected = derivative("torch")
        assert expected.abs().max() > 0.1
        try:
            made = derivative("numba")
        except (RuntimeError, NotImplementedError):
            return
        assert_close(made, expected, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("mode", ["nearest", "lifting"])
    def test_whole_pixels_have_no_gradient_to_the_matrix(self, mode):
        image, matrix = random(2, 2, *SIZE).requires_grad_(), turned().matrix.clone().requires_grad_()
        warp(image, AffineTransform(matrix, SIZE), mode=mode, backend="numba").image.sum().backward()
        assert image.grad.sum() > 1
        assert matrix.grad is None or not matrix.grad.any()

    def test_validity_has_no_gradient(self):
        image = random(2, 2, *SIZE).requires_grad_()
        shown, real = warp(image, turned(), backend="numba")
        assert shown.requires_grad
        assert not real.requires_grad


def operands(mode, *, masked=False, normalized=False, dtype=torch.float32, last=False):
    """The tensors that the operator of the warp takes."""
    image = random(2, 3, *SIZE, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last) if last else image
    inside = Lifting.of(turned().inverse()).packed() if mode == "lifting" else coordinates(turned().inverse(), dtype)
    inverse = turned().inverse().matrix[:, :2].clone() if mode in SMOOTH else None
    statistics = (torch.zeros(3), torch.full((3,), 0.5)) if normalized else (None, None)
    return image, inverse, inside, mask() if masked else None, *statistics


# The check itself asks inner tensors for gradients.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
class TestOperators:
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("rich", [False, True])
    @pytest.mark.parametrize("mode", MODES)
    def test_the_warp_is_a_sound_operator(self, mode, rich, last):
        image, inverse, places, *rest = operands(mode, masked=rich, normalized=rich, last=last)
        inverse = None if inverse is None else inverse.requires_grad_()
        given = (image.requires_grad_(), inverse, places, *rest, mode, "fill", 0.5, torch.float32, 5, 9)
        torch.library.opcheck(OPERATORS.warp.default, given)

    @pytest.mark.parametrize("rich", [False, True])
    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    def test_the_image_gradient_is_a_sound_operator(self, mode, rich):
        _, inverse, places, valid, _, std = operands(mode, masked=rich, normalized=rich)
        gradient = random(2, 3, 5, 9)
        gradient = gradient.contiguous(memory_format=torch.channels_last) if rich else gradient
        gradient, dtype = gradient.requires_grad_(), torch.bfloat16 if rich else torch.float32
        given = (gradient, inverse, places, valid, std, mode, "fill", dtype, *SIZE)
        torch.library.opcheck(OPERATORS.warp_image_gradient.default, given)

    @pytest.mark.parametrize("rich", [False, True])
    @pytest.mark.parametrize("mode", SMOOTH)
    def test_the_matrix_gradient_is_a_sound_operator(self, mode, rich):
        image, _, places, valid, _, std = operands(mode, masked=rich, normalized=rich)
        given = (image, random(2, 3, 5, 9), places, valid, std, mode, "border")
        torch.library.opcheck(OPERATORS.warp_matrix_gradient.default, given)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("kind", ["sliced", "expanded", "channels last", "one channel"])
    def test_compilers_are_told_the_strides_that_come(self, kind, mode):
        image = random(2, 3, *SIZE)
        image = {
            "sliced": random(2, 6, *SIZE)[:, ::2],
            "expanded": image[:1].expand(2, -1, -1, -1),
            "channels last": image.contiguous(memory_format=torch.channels_last),
            "one channel": image[:, :1],
        }[kind]
        _, inverse, places, *rest = operands(mode)
        given = (inverse, places, *rest, mode, "fill", 0.5, torch.float32, 5, 9)
        shown = OPERATORS.warp(image, *given)
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as fakes:
            told = OPERATORS.warp(fakes.from_tensor(image), *given)
        for mine, theirs in zip(told, shown, strict=True):
            assert (mine.shape, mine.stride(), mine.dtype) == (theirs.shape, theirs.stride(), theirs.dtype)


class TestKeeping:
    """What backward holds on to."""

    def watched(self, **options):
        leaf = random(2, 3, *SIZE).requires_grad_()
        image = leaf * 2
        watch = weakref.ref(image)
        matrix = turned().matrix.clone().requires_grad_(options.pop("to_matrix", False))
        shown = warp(image, AffineTransform(matrix, SIZE), backend="numba", **changed(options, image)).image
        del image
        gc.collect()
        return shown, watch, leaf

    @pytest.mark.parametrize("options", CASES.values(), ids=CASES)
    def test_the_image_is_let_go_when_only_it_needs_a_gradient(self, options):
        shown, watch, leaf = self.watched(**options)
        assert watch() is None
        shown.sum().backward()
        assert leaf.grad.any()

    @pytest.mark.parametrize("mode", SMOOTH)
    def test_the_image_is_kept_for_the_gradient_to_the_matrix(self, mode):
        shown, watch, _ = self.watched(mode=mode, to_matrix=True)
        assert watch() is not None
        del shown
        gc.collect()
        assert watch() is None

    @pytest.mark.parametrize("mode", MODES)
    def test_nothing_of_the_size_of_an_image_is_kept(self, mode):
        kept = []

        def keep(tensor):
            kept.append(tensor)
            return tensor

        image = random(2, 3, *SIZE).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            shown = warp(image, turned(), mode=mode, backend="numba").image
        assert shown.requires_grad
        assert kept
        assert max(tensor.numel() for tensor in kept) < image.numel() / 3

    def test_an_image_written_to_in_between_is_an_error_where_its_values_are_needed(self):
        matrix = turned().matrix.clone().requires_grad_()
        image = random(2, 3, *SIZE)
        shown = warp(image, AffineTransform(matrix, SIZE), backend="numba").image
        image.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            shown.sum().backward()
