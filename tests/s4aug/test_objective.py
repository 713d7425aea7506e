"""The fused objective against the composition of reference warps, which shares no kernel with it."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from s4aug import AffineTransform, BackendUnavailable, RandomAffine, View, consistency_loss, consistency_terms
from s4aug.kernels import kernels_for
from s4aug.transform import coordinates

pytest.importorskip("numba")
OPERATORS = torch.ops.s4aug
# Of the largest gradient; sums go in another order than torch's, and what comes out has its type.
ROUNDING = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
MOTIONS = ("gentle", "any", "lattice", "apart", "same")


def motions(kind, batch, size, generator):
    """Two motions of the same frame."""
    if kind == "lattice":
        names = (AffineTransform.hflip, AffineTransform.vflip, AffineTransform.identity)
        picked = torch.randint(3, (2,), generator=generator).tolist()
        return [names[i](batch, size) for i in picked]
    ranges = {"gentle": (20, (0.1, 0.1), (0.8, 1.25)), "any": (180, (0.3, 0.3), (0.3, 3.0)), "same": (15, None, None)}
    perturb = RandomAffine(*ranges.get(kind, (0, None, None)), hflip=0.3 if kind == "any" else 0)
    both = [perturb.sample(batch, size, generator=generator) for _ in range(2)]
    if kind == "apart":
        return [AffineTransform.shift(torch.full((batch, 2), sign * 0.7 * max(size)), size) for sign in (1, -1)]
    return [both[0], both[0]] if kind == "same" else both


def views(kind, batch, size, *, masked=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 1, *size, generator=generator)
    valid = torch.rand(batch, 1, *size, generator=generator) < 0.97 if masked else None
    return [View.of(images, motion, valid=valid) for motion in motions(kind, batch, size, generator)]


def logits(shape, dtype=torch.float32, *, seed=0, last=False):
    made = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    layout = torch.channels_last if last else torch.contiguous_format
    return made.to(dtype).contiguous(memory_format=layout)


def outcome(pair, both, **options):
    """Loss as numerator and count, and both gradients."""
    leaves = [each.detach().clone(memory_format=torch.preserve_format).requires_grad_() for each in pair]
    terms = consistency_terms(leaves[0], both[0], leaves[1], both[1], **options)
    if terms.numerator.requires_grad:
        terms.numerator.backward()
    return terms.numerator.detach(), terms.count, leaves[0].grad, leaves[1].grad


def assert_as_composed(pair, both, **options):
    kept = [each.clone() for each in pair]
    mine, expected = (outcome(pair, both, backend=backend, **options) for backend in ("numba", "torch"))
    assert torch.equal(mine[1], expected[1])
    assert_close(mine[0], expected[0], rtol=1e-5, atol=1e-6 * max(1, int(expected[1])))
    for side in (2, 3):
        if expected[side] is None:
            assert mine[side] is None
            continue
        assert mine[side].dtype == expected[side].dtype
        assert mine[side].isfinite().all()
        largest = float(expected[side].abs().max()) if expected[side].numel() else 0.0
        limit = ROUNDING[pair[0].dtype] * max(largest, 1e-6)
        if options.get("loss") == "kl" and not options.get("mask", True):
            # Beside what is 0 the slope is half of log(tiny), and the softmax takes its mean off again.
            limit += 4 * torch.finfo(torch.float32).eps * 87 / 2
        assert_close(mine[side], expected[side], rtol=0, atol=limit)
        last = pair[0].is_contiguous(memory_format=torch.channels_last) and not pair[0].is_contiguous()
        assert mine[side].is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    for now, then in zip(pair, kept, strict=True):
        assert torch.equal(now.nan_to_num(), then.nan_to_num())
    return mine


@st.composite
def objectives(draw, largest, *, wide=False):
    """Any objective; unless `wide`, of few numbers of classes and types, for each is compiled on its own."""
    side = st.integers(1, largest)
    shape = {
        "kind": draw(st.sampled_from(MOTIONS)),
        "batch": draw(st.integers(0, 5)),
        "size": (draw(side), draw(side)),
        "masked": draw(st.booleans()),
    }
    few = st.sampled_from([*((count, torch.float32) for count in (1, 3, 7, 17)), (7, torch.bfloat16)])
    any_type = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
    classes, dtype = draw(st.tuples(st.integers(1, 19), any_type) if wide else few)
    pixels = {"classes": classes, "dtype": dtype, "last": draw(st.booleans())}
    options = {
        "loss": draw(st.sampled_from(["mse", "kl"])),
        "activation": draw(st.sampled_from(["softmax", "softmax", None])),
        "classes": draw(st.sampled_from(["mean", "sum"])),
        "detach": draw(st.sampled_from([None, 1, 2])),
        "mask": draw(st.booleans()),
    }
    # The logarithm of what is no probability says nothing.
    options["activation"] = "softmax" if options["loss"] == "kl" else options["activation"]
    return shape, pixels, options, draw(st.integers(0, 2**31))


def check_any(shape, pixels, options, seed):
    both = views(**shape, seed=seed)
    full = (shape["batch"], pixels["classes"], *shape["size"])
    pair = [logits(full, pixels["dtype"], seed=seed + i, last=pixels["last"]) for i in (1, 2)]
    assert_as_composed(pair, both, **options)


FIXED = {"loss": "mse", "activation": "softmax", "classes": "mean", "detach": None, "mask": True}
FRAME = {"kind": "gentle", "batch": 2, "size": (33, 20), "masked": True}
APART = {"kind": "apart", "batch": 1, "size": (7, 7), "masked": False}
PIXELS = {"classes": 7, "dtype": torch.float32, "last": False}


class TestAgainstTheComposition:
    @settings(max_examples=30, deadline=None)
    @example((FRAME, PIXELS, FIXED, 0))
    @example((FRAME, PIXELS | {"classes": 19, "last": True}, FIXED, 0))
    @example((FRAME, PIXELS | {"dtype": torch.bfloat16}, FIXED | {"loss": "kl", "mask": False}, 0))
    @example((APART, PIXELS | {"classes": 2}, FIXED | {"loss": "kl", "mask": False}, 0))
    @given(objectives(largest=67))
    def test_value_count_and_gradients(self, drawn):
        check_any(*drawn)

    @pytest.mark.slow
    @pytest.mark.timeout(7200)
    @settings(max_examples=1500, deadline=None)
    @given(objectives(largest=67, wide=True))
    def test_value_count_and_gradients_in_a_wide_sweep(self, drawn):
        check_any(*drawn)

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    @pytest.mark.parametrize("classes", [1, 4, 16, 17, pytest.param(33, marks=pytest.mark.slow)])
    def test_classes_are_split_into_groups_without_a_seam(self, classes, loss):
        both = views("gentle", 2, (70, 41))
        mine = assert_as_composed([logits((2, classes, 70, 41), seed=i) for i in (1, 2)], both, loss=loss)
        assert classes == 1 or mine[0] > 0

    @pytest.mark.parametrize("stride", [2, 4])
    def test_coarse_predictions(self, stride):
        both = views("gentle", 2, (64, 48), masked=False)
        pair = [logits((2, 5, 64 // stride, 48 // stride), seed=i) for i in (1, 2)]
        assert assert_as_composed(pair, both)[1] > 20

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("mask", [True, False])
    def test_masked_predictions_and_neighbours_without_weight_are_not_read(self, mask, bad):
        frame, batch = (12, 10), 2
        valid = torch.rand(batch, 1, *frame, generator=torch.Generator().manual_seed(3)) < 0.8
        images = torch.rand(batch, 1, *frame)
        both = [
            View.of(images, move(batch, frame), valid=valid) for move in (AffineTransform.hflip, AffineTransform.vflip)
        ]
        clean = [logits((batch, 6, *frame), seed=i) for i in (1, 2)]
        pair = [torch.where(view.valid, each, bad) for view, each in zip(both, clean, strict=True)]
        made, expected = (outcome(given, both, mask=mask, backend="numba") for given in (pair, clean))
        assert expected[0] > 0
        assert torch.equal(made[0], expected[0])
        for side, view in zip((2, 3), both, strict=True):
            assert torch.equal(made[side], expected[side])
            assert not made[side][~view.valid.expand_as(made[side])].any()

    def test_the_comparison_sees_a_motion_that_is_a_hair_off(self):
        both = views("gentle", 2, (33, 20))
        matrix = both[0].transform.matrix.clone()
        matrix[:, 0, 2] += 1e-3
        moved = View(both[0].image, both[0].valid, AffineTransform(matrix, (33, 20)))
        pair = [logits((2, 5, 33, 20), seed=i) for i in (1, 2)]
        made = outcome(pair, [moved, both[1]], backend="numba")
        expected = outcome(pair, both, backend="torch")
        assert not torch.allclose(made[2], expected[2], rtol=0, atol=ROUNDING[torch.float32] * expected[2].abs().max())


class TestNothingToCompare:
    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_views_that_never_meet_give_0_and_zero_gradient(self, loss):
        both = views("apart", 2, (16, 12))
        mine = assert_as_composed([logits((2, 3, 16, 12), seed=i) for i in (1, 2)], both, loss=loss)
        assert mine[0] == mine[1] == 0
        assert not mine[2].any()
        assert not mine[3].any()

    def test_an_empty_batch(self):
        mine = assert_as_composed([logits((0, 3, 16, 12))] * 2, views("gentle", 0, (16, 12)))
        assert mine[0] == mine[1] == 0
        assert mine[2].shape == (0, 3, 16, 12)


class TestPromises:
    def pair(self, classes=6):
        return [logits((3, classes, 150, 40), seed=i) for i in (1, 2)], views("gentle", 3, (150, 40), masked=True)

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_the_bits_hang_on_no_number_of_threads(self, loss):
        before, made = torch.get_num_threads(), []
        try:
            for count in (1, 2, 5, 1):
                torch.set_num_threads(count)
                made.append(outcome(*self.pair(), loss=loss, backend="numba"))
        finally:
            torch.set_num_threads(before)
        for again in made[1:]:
            assert all(torch.equal(a, b) for a, b in zip(again, made[0], strict=True))

    def test_callers_in_several_threads_get_what_each_gets_alone(self):
        cases = [[logits((2, 3 + i, 40, 30), seed=i + j) for j in (1, 2)] for i in range(6)]
        both = views("gentle", 2, (40, 30))
        alone = [outcome(pair, both, backend="numba") for pair in cases]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda pair: outcome(pair, both, backend="numba"), cases))
        for mine, theirs in zip(together, alone, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_every_element_is_written(self, loss, monkeypatch):
        empty = torch.empty

        def poisoned(*size, **options):
            made = empty(*size, **options)
            return made.fill_(math.nan if made.is_floating_point() else 77)

        pair, both = self.pair()
        expected = outcome(pair, both, loss=loss, backend="numba")
        monkeypatch.setattr(torch, "empty", poisoned)
        made = outcome(pair, both, loss=loss, backend="numba")
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))

    @pytest.mark.parametrize(("loss", "detach", "maps"), [("mse", None, 1), ("kl", 1, 1), ("kl", None, 2)])
    def test_only_predictions_and_what_the_adjoint_gathers_from_are_kept(self, loss, detach, maps):
        kept, pair, both = [], *self.pair(classes=8)
        leaves = [each.requires_grad_() for each in pair]

        def keep(tensor):
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            consistency_terms(leaves[0], both[0], leaves[1], both[1], loss=loss, detach=detach, backend="numba")
        given = {leaf.data_ptr() for leaf in leaves}
        extra = sum(tensor.nbytes for tensor in kept if tensor.data_ptr() not in given)
        assert maps * leaves[0].nbytes <= extra < (maps + 0.05) * leaves[0].nbytes

    def test_without_gradient_nothing_is_kept_and_the_value_is_the_same(self):
        pair, both = self.pair()
        with torch.no_grad():
            terms = consistency_terms(pair[0], both[0], pair[1], both[1], backend="numba")
        assert terms.numerator.grad_fn is None
        assert torch.equal(terms.numerator, outcome(pair, both, backend="numba")[0])
        places = [coordinates(view.transform, torch.float32) for view in both]
        given = (*pair, *places, *(view.valid for view in both), "mse", True, 0, True, False, 150, 40)
        assert [slopes.numel() for slopes in OPERATORS.consistency(*given)[2:]] == [0, 0]

    def test_what_was_kept_serves_one_gradient(self):
        pair, both = self.pair()
        leaves = [each.requires_grad_() for each in pair]
        loss = consistency_loss(leaves[0], both[0], leaves[1], both[1], backend="numba")
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()

    def test_a_second_derivative_is_refused_with_the_cure_and_taken_by_the_composition(self):
        pair, both = self.pair()
        for backend in ("numba", "torch"):
            leaf = pair[0].clone().requires_grad_()
            loss = consistency_loss(leaf, both[0], pair[1], both[1], backend=backend)
            (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
            if backend == "torch":
                assert torch.autograd.grad(first.square().sum(), leaf)[0].any()
                continue
            with pytest.raises(RuntimeError, match='differentiated once; pass backend="torch"'):
                first.square().sum().backward()


class TestOperators:
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(("loss", "detach", "mask"), [("mse", 0, True), ("kl", 0, False), ("kl", 2, True)])
    def test_it_is_a_sound_operator(self, loss, detach, mask, last):
        both = views("gentle", 2, (9, 8))
        pair = [logits((2, 5, 9, 8), seed=i, last=last) for i in (1, 2)]
        places = [coordinates(view.transform, torch.float32) for view in both]
        valid = [view.valid for view in both]
        for leaf in pair[2 - detach :] if detach else pair:
            leaf.requires_grad_()
        given = (*pair, *places, *valid, loss, True, detach, mask, True, 9, 8)
        # The gradient is differentiated once, so its own graph is not asked for.
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(OPERATORS.consistency.default, given, test_utils=checks)
        slopes = kernels_for(pair[0].device).slopes_shape(pair[0].shape, (9, 8))
        gradient = (pair[0].detach(), torch.rand(slopes), places[0], None, torch.tensor(2.0), True)
        torch.library.opcheck(OPERATORS.consistency_gradient.default, gradient)

    @pytest.mark.parametrize("loss", ["mse", pytest.param("kl", marks=pytest.mark.slow)])
    def test_a_step_compiles_whole_to_the_bits_of_eager(self, loss):
        torch.compiler.reset()
        perturb, images = RandomAffine(20, (0.05, 0.05), (0.8, 1.2)), torch.rand(2, 3, 24, 32)
        net = nn.Conv2d(3, 4, 3, padding=1)

        def step(images, seed):
            first, second = perturb(images, seed=seed), perturb(images, seed=seed + 9)
            return consistency_loss(net(first.image), first, net(second.image), second, loss=loss, backend="numba")

        made = []
        for run in (step, torch.compile(step, backend="aot_eager", fullgraph=True)):
            net.zero_grad()
            value = run(images, torch.tensor([3, 4]))
            value.backward()
            made.append((value.detach(), net.weight.grad.clone()))
        assert made[0][0] > 0
        assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))

    def test_autocast_changes_no_bit_of_what_it_is_given(self):
        pair, both = [logits((2, 5, 20, 30), torch.bfloat16, seed=i) for i in (1, 2)], views("gentle", 2, (20, 30))
        plain = outcome(pair, both, backend="numba")
        with torch.autocast("cpu", torch.bfloat16):
            cast = outcome(pair, both, backend="numba")
        assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))

    def test_a_network_is_called_with_other_parameters(self):
        both, net = views("gentle", 2, (20, 30)), nn.Conv2d(1, 4, 3, padding=1)
        other = {name: (value.detach() * 2).requires_grad_() for name, value in net.named_parameters()}
        logits_of = [torch.func.functional_call(net, other, (view.image,)) for view in both]
        consistency_loss(logits_of[0], both[0], logits_of[1], both[1], backend="numba").backward()
        assert other["weight"].grad.any()
        assert net.weight.grad is None


class TestDispatch:
    @pytest.fixture
    def fused(self, monkeypatch):
        """Losses that went the fused way."""
        calls, kernels = [], kernels_for(torch.device("cpu"))
        consistency = kernels.consistency
        monkeypatch.setattr(kernels, "consistency", lambda *a, **o: (calls.append(o["loss"]), consistency(*a, **o))[1])
        return calls

    def test_auto_takes_the_fused_pass_and_torch_the_composition(self, fused):
        pair, both = [logits((2, 5, 20, 30), seed=i) for i in (1, 2)], views("gentle", 2, (20, 30))
        values = [
            consistency_loss(pair[0], both[0], pair[1], both[1], backend=name) for name in ("auto", "numba", "torch")
        ]
        assert fused == ["mse", "mse"]
        assert_close(values[0], values[2])
        assert torch.equal(values[0], values[1])

    def test_what_is_not_fused_is_composed_of_the_kernels_warps(self, fused):
        both, lifted = views("gentle", 2, (20, 30)), RandomAffine(15, mode="lifting")
        wide = [logits((2, 5, 20, 30), torch.float64, seed=i) for i in (1, 2)]
        moving = both[0].transform.matrix.clone().requires_grad_()
        learnt = View(both[0].image, both[0].valid, AffineTransform(moving, (20, 30)))
        images = torch.rand(2, 1, 20, 30)
        permuted = [lifted(images, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
        narrow = [each.float() for each in wide]
        for pair, pairs in (
            (wide, both),
            (narrow, [learnt, both[1]]),
            (narrow, permuted),
            ([narrow[0], narrow[1].bfloat16()], both),
        ):
            made, expected = (
                consistency_loss(pair[0], pairs[0], pair[1], pairs[1], backend=name) for name in ("numba", "torch")
            )
            assert expected > 0
            assert_close(made, expected)
        assert fused == []
        consistency_loss(narrow[0], learnt, narrow[1], both[1]).backward()
        assert moving.grad.any()

    @pytest.mark.parametrize("backend", ["triton", "cuda"])
    def test_a_backend_that_is_not_there_is_refused_by_name(self, backend):
        both = views("gentle", 1, (20, 30))
        with pytest.raises(BackendUnavailable, match=repr(backend)):
            consistency_loss(logits((1, 2, 20, 30)), both[0], logits((1, 2, 20, 30)), both[1], backend=backend)

    def test_torch_func_takes_the_composition_and_is_refused_by_name(self):
        both, other = views("gentle", 1, (20, 30)), logits((1, 2, 20, 30), seed=1)

        def value(prediction, backend="auto"):
            return consistency_loss(prediction, both[0], other, both[1], backend=backend)

        gradient = torch.func.grad(value)(logits((1, 2, 20, 30)))
        leaf = logits((1, 2, 20, 30)).requires_grad_()
        assert_close(gradient, torch.autograd.grad(value(leaf), leaf)[0])
        with pytest.raises(BackendUnavailable, match=r"torch.func; take 'auto' or 'torch'"):
            torch.func.grad(lambda prediction: value(prediction, "numba"))(other)
