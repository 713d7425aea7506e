"""The fast backends as operators of torch: derivatives, compilation, what is kept, and which backend is taken."""

import gc
import importlib
import subprocess
import sys
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close

import s4aug
from s4aug import AffineTransform, BackendUnavailable, warp
from s4aug.kernels import INSTALLED
from s4aug.lifting import Lifting
from s4aug.transform import coordinates

pytest.importorskip("numba")
MODES = ("bilinear", "nearest", "bicubic", "lifting")
SMOOTH = ("bilinear", "bicubic")
PADDINGS = ("fill", "border", "reflection")
SIZE = (6, 7)
KERNELS = importlib.import_module("s4aug.backends.numba")
OPERATORS = torch.ops.s4aug


def turned(batch=2, size=SIZE):
    """Turns and shifts that keep area, off the lattice everywhere."""
    angle = torch.tensor([17.0, -110.0, 64.0])[:batch]
    translation = torch.tensor([[0.31, -0.83], [1.37, 0.41], [-0.7, 0.2]])[:batch]
    return AffineTransform.from_params(angle=angle, translation=translation, size=size)


def random(*shape, dtype=torch.float32, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(batch=2, size=SIZE):
    return random(batch, 1, *size, seed=3) < 0.96


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


@pytest.fixture
def kernel_calls(monkeypatch):
    """How often the kernels ran."""
    calls, forward = [], KERNELS.forward

    def counted(*args, **options):
        calls.append(options["mode"])
        return forward(*args, **options)

    monkeypatch.setattr(KERNELS, "forward", counted)
    return calls


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(INSTALLED, "numba", False)
    s4aug.kernels._tell_once.cache_clear()
    yield
    s4aug.kernels._tell_once.cache_clear()


class TestDispatch:
    @pytest.mark.parametrize("mode", MODES)
    def test_auto_takes_the_kernels_on_the_cpu(self, kernel_calls, mode):
        image = random(2, 3, *SIZE)
        warp(image, turned(), mode=mode)
        warp(image, turned(), mode=mode, backend="numba")
        assert kernel_calls == [mode, mode]
        warp(image, turned(), mode=mode, backend="torch")
        assert len(kernel_calls) == 2

    def test_another_device_is_refused_by_name_with_the_cure(self, kernel_calls):
        image, transform = torch.empty(2, 3, *SIZE, device="meta"), turned().to("meta")
        with pytest.raises(
            BackendUnavailable, match=r"'numba' has no kernels for images on meta; take 'auto' or 'torch'"
        ):
            warp(image, transform, backend="numba")
        assert warp(image, transform).image.device.type == "meta"
        assert kernel_calls == []

    def test_an_unknown_backend_is_refused_by_name_with_the_choices(self):
        with pytest.raises(BackendUnavailable, match=r"'cuda' is not there; choose one of auto, torch, numba"):
            warp(random(2, 3, *SIZE), turned(), backend="cuda")

    @pytest.mark.usefixtures("without_numba")
    def test_without_numba_auto_takes_the_reference_and_says_so_once(self, kernel_calls):
        image = random(2, 3, *SIZE)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            shown = [warp(image, turned()) for _ in range(3)]
        assert [(w.category, str(w.message)) for w in told] == [
            (RuntimeWarning, "numba is not installed: warps take the reference, which is slower")
        ]
        assert kernel_calls == []
        expected = warp(image, turned(), backend="torch")
        assert all(torch.equal(mine.image, expected.image) for mine in shown)

    @pytest.mark.usefixtures("without_numba")
    def test_without_numba_its_name_is_refused_and_the_reference_is_silent(self):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(BackendUnavailable, match=r"needs the package numba, .* take 'auto' or 'torch'"):
                warp(random(2, 3, *SIZE), turned(), backend="numba")
            warp(random(2, 3, *SIZE), turned(), backend="torch")
        assert told == []

    @pytest.mark.parametrize("which", [0, 1])
    def test_statistics_that_carry_gradient_take_the_reference_and_are_refused_by_the_kernels(
        self, kernel_calls, which
    ):
        statistics = [torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])]
        statistics[which].requires_grad_()
        image = random(2, 3, *SIZE)
        with pytest.raises(
            BackendUnavailable, match=r"no gradient to the statistics of normalize; take 'auto' or 'torch'"
        ):
            warp(image, turned(), normalize=statistics, backend="numba")
        warp(image, turned(), normalize=statistics).image.sum().backward()
        assert statistics[which].grad.all()
        assert kernel_calls == []
        warp(image, turned(), normalize=[part.detach() for part in statistics])
        assert kernel_calls == ["bilinear"]

    @pytest.mark.parametrize("fill", [np.float32(0.5), np.float64(0.5), np.int64(3), np.uint8(255), True])
    @pytest.mark.parametrize("mode", MODES)
    def test_fill_may_be_any_number_that_the_reference_takes(self, mode, fill):
        shown, expected = (
            warp(random(2, 3, *SIZE), turned(), mode=mode, fill=fill, backend=backend) for backend in ("auto", "torch")
        )
        assert not expected.valid.all()
        assert torch.equal(shown.image, expected.image)

    def test_numba_is_loaded_by_the_first_warp_that_takes_it(self):
        code = (
            "import sys, torch, s4aug\n"
            "transform = s4aug.AffineTransform.identity(1, (3, 4))\n"
            "loaded = lambda: 'numba' in sys.modules\n"
            "seen = [loaded()]\n"
            "s4aug.warp(torch.ones(1, 1, 3, 4), transform, backend='torch'); seen.append(loaded())\n"
            "s4aug.warp(torch.ones(1, 1, 3, 4, device='meta'), transform.to('meta')); seen.append(loaded())\n"
            "s4aug.warp(torch.ones(1, 1, 3, 4), transform); seen.append(loaded())\n"
            "print(seen)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert told.strip() == "[False, False, False, True]"
