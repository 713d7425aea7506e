import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from s4aug import (
    AffineTransform,
    ArgumentError,
    RandomAffine,
    View,
    consistency_loss,
    consistency_terms,
)

PAPER = RandomAffine(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))
SIZE = (14, 11)


def smooth_logits(batch, side):
    """Six class maps of low frequency: one wave over twice the frame, strong enough to decide."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phases = torch.arange(batch * 6).reshape(batch, 6, 1, 1) * 1.7
    wave = torch.pi / side
    return 8 * torch.sin(wave * (x * torch.cos(phases) + y * torch.sin(phases)) + phases)


def two_views(images, seed=0, **options):
    seeds = torch.arange(len(images)) + 1000 * seed
    return PAPER(images, seed=seeds, **options), PAPER(images, seed=seeds + 500, **options)


@pytest.fixture
def case(rng):
    """Predictions of two views in float64 with gradient, and the views."""
    images = torch.rand(2, 1, *SIZE, generator=rng, dtype=torch.float64)
    v1, v2 = two_views(images)
    p1, p2 = (torch.randn(2, 4, *SIZE, generator=rng, dtype=torch.float64).requires_grad_() for _ in "12")
    return p1, v1, p2, v2


@pytest.fixture
def small_case(rng):
    """As `case`, of a size for finite differences."""
    v1, v2 = two_views(torch.rand(1, 1, 4, 5, generator=rng, dtype=torch.float64), seed=1)
    p1, p2 = (torch.randn(1, 2, 4, 5, generator=rng, dtype=torch.float64).requires_grad_() for _ in "12")
    assert 3 < consistency_terms(p1, v1, p2, v2).count < 20
    return p1, v1, p2, v2


def softmax(logits):
    wide = np.exp(logits - logits.max(1, keepdims=True))
    return wide / wide.sum(1, keepdims=True)


def plain_loss(case, oracle, *, loss="mse", activation="softmax", classes="mean", detach=None, mask=True):
    """The loss pixel by pixel in numpy, undone by the loops of the warp's oracle."""
    restored = []
    for prediction, view in (case[:2], case[2:]):
        numbers = prediction.detach().numpy()
        numbers = softmax(numbers) if activation else numbers
        home = torch.linalg.inv(view.transform.matrix)
        restored.append(oracle(torch.from_numpy(numbers), home, view.transform.size, valid=view.valid))
    (p, valid1), (q, valid2) = restored
    total, count = 0.0, 0
    for b, i, j in np.ndindex(len(p), *p.shape[2:]):
        both = valid1[b, 0, i, j] and valid2[b, 0, i, j]
        if not both and mask:
            continue
        count += 1
        a, c = p[b, :, i, j], q[b, :, i, j]
        if loss == "mse":
            total += ((a - c) ** 2).sum()
        elif both:
            forward, backward = (a * np.log(a / c)).sum(), (c * np.log(c / a)).sum()
            total += {None: (forward + backward) / 2, 1: forward, 2: backward}[detach]
    return total / count / (p.shape[1] if classes == "mean" else 1)


class TestIdentityNetwork:
    """What the mask is for."""

    @pytest.mark.parametrize("activation", ["softmax", None])
    def test_the_loss_is_nothing_with_the_mask_and_much_without(self, activation):
        images = smooth_logits(4, 60)
        images = images.softmax(1) if activation is None else images
        v1, v2 = two_views(images)
        masked = consistency_loss(v1.image, v1, v2.image, v2, activation=activation)
        unmasked = consistency_loss(v1.image, v1, v2.image, v2, activation=activation, mask=False)
        assert masked < 1e-5
        assert unmasked > 1e-2

    def test_the_contrast_is_such_that_views_not_undone_would_be_seen(self):
        images = smooth_logits(4, 60)
        v1, v2 = two_views(images)
        still = View.of(images, AffineTransform.identity(4, (60, 60)))
        assert consistency_loss(v1.image, still, v2.image, still) > 1e-2

    def test_stride_4_maps_agree_too(self):
        images = smooth_logits(4, 60)
        v1, v2 = two_views(images)
        coarse = [torch.nn.functional.avg_pool2d(view.image, 4) for view in (v1, v2)]
        assert consistency_loss(coarse[0], v1, coarse[1], v2) < 1e-3


class TestValue:
    @pytest.mark.parametrize("detach", [None, 1, 2])
    @pytest.mark.parametrize("classes", ["mean", "sum"])
    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_equals_the_loss_written_out(self, loss, classes, detach, case, brute_force_warp):
        options = {"loss": loss, "classes": classes, "detach": detach}
        expected = plain_loss(case, brute_force_warp, **options)
        assert expected > 1e-3
        assert_close(consistency_loss(*case, **options).item(), expected, rtol=1e-10, atol=0)

    @pytest.mark.parametrize("activation", ["softmax", None])
    @pytest.mark.parametrize("mask", [True, False])
    def test_mse_with_and_without_activation_and_mask(self, mask, activation, case, brute_force_warp):
        options = {"activation": activation, "mask": mask}
        expected = plain_loss(case, brute_force_warp, **options)
        assert_close(consistency_loss(*case, **options).item(), expected, rtol=1e-10, atol=0)

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_the_sum_over_classes_is_their_number_times_the_mean(self, loss, case):
        mean, total = (consistency_loss(*case, loss=loss, classes=classes) for classes in ("mean", "sum"))
        assert_close(total, 4 * mean)

    def test_mse_is_symmetric_and_kl_from_one_side_is_not(self, case):
        turned = case[2:] + case[:2]
        assert_close(consistency_loss(*case), consistency_loss(*turned))
        assert_close(consistency_loss(*case, loss="kl"), consistency_loss(*turned, loss="kl"))
        one, other = (consistency_loss(*case, loss="kl", detach=side) for side in (1, 2))
        assert not torch.isclose(one, other, rtol=1e-3)
        assert_close((one + other) / 2, consistency_loss(*case, loss="kl"))

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_numerator_and_count_of_parts_add_up_to_the_joint_batch(self, loss, rng):
        images = torch.rand(5, 1, *SIZE, generator=rng, dtype=torch.float64)
        views = two_views(images)
        predictions = [torch.randn(5, 3, *SIZE, generator=rng, dtype=torch.float64) for _ in "12"]

        def terms(part):
            cut = [View(v.image[part], v.valid[part], v.transform[part], v.mode) for v in views]
            return consistency_terms(predictions[0][part], cut[0], predictions[1][part], cut[1], loss=loss)

        joint, parts = terms(slice(None)), [terms(part) for part in (slice(0, 1), slice(1, 5), slice(5, 5))]
        assert_close(sum(part.numerator for part in parts), joint.numerator)
        assert sum(part.count for part in parts) == joint.count
        assert sum(part.pixels for part in parts) == joint.pixels == 5 * SIZE[0] * SIZE[1]
        assert_close(joint.loss, joint.numerator / joint.count)
        assert_close(joint.valid_fraction.item(), joint.count.item() / joint.pixels)
        assert_close(joint.loss, consistency_loss(predictions[0], views[0], predictions[1], views[1], loss=loss))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_half_predictions_are_compared_in_float32(self, loss, dtype, case):
        p1, v1, p2, v2 = case
        half = [p.detach().to(dtype) for p in (p1, p2)]
        with torch.autocast("cpu", torch.bfloat16):
            result = consistency_loss(half[0], v1, half[1], v2, loss=loss)
        assert result.dtype == torch.float32
        expected = consistency_loss(half[0].double(), v1, half[1].double(), v2, loss=loss)
        assert_close(result.double(), expected, rtol=1e-5, atol=1e-7)


class TestGradient:
    @pytest.mark.parametrize("activation", ["softmax", None])
    @pytest.mark.parametrize("mask", [True, False])
    def test_mse_by_finite_differences(self, mask, activation, small_case):
        p1, v1, p2, v2 = small_case

        def loss(a, b):
            return consistency_loss(a, v1, b, v2, mask=mask, activation=activation)

        assert gradcheck(loss, (p1, p2))

    @pytest.mark.parametrize("detach", [None, 1, 2])
    def test_kl_by_finite_differences_of_the_side_that_has_gradient(self, detach, small_case):
        p1, v1, p2, v2 = small_case

        def loss(a, b):
            return consistency_loss(a, v1, b, v2, loss="kl", detach=detach)

        if detach == 1:
            assert gradcheck(lambda b: loss(p1, b), p2)
        elif detach == 2:
            assert gradcheck(lambda a: loss(a, p2), p1)
        else:
            assert gradcheck(loss, (p1, p2))

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    @pytest.mark.parametrize("detach", [None, 1, 2])
    def test_gradient_reaches_both_sides_unless_detached(self, detach, loss, case):
        p1, _, p2, _ = case
        consistency_loss(*case, loss=loss, detach=detach).backward()
        for side, prediction in ((1, p1), (2, p2)):
            if detach == side:
                assert prediction.grad is None
            else:
                assert prediction.grad.abs().sum() > 0

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_no_valid_pixel_gives_0_with_zero_gradient(self, loss, rng):
        none = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
        v1, v2 = two_views(torch.rand(2, 1, *SIZE, generator=rng), valid=none)
        p1, p2 = (torch.randn(2, 4, *SIZE, generator=rng).requires_grad_() for _ in "12")
        result = consistency_loss(p1, v1, p2, v2, loss=loss)
        result.backward()
        assert result == 0
        for prediction in (p1, p2):
            assert torch.equal(prediction.grad, torch.zeros_like(prediction))

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_an_empty_batch_gives_0(self, loss):
        v1, v2 = two_views(torch.zeros(0, 1, *SIZE))
        empty = torch.zeros(0, 4, *SIZE).requires_grad_()
        result = consistency_loss(empty, v1, empty, v2, loss=loss)
        result.backward()
        assert result == 0

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_what_is_predicted_for_masked_pixels_reaches_neither_value_nor_gradient(self, loss, bad, case):
        p1, v1, p2, v2 = case
        results = []
        for value in (0.5, bad):
            sides = [(p.detach().softmax(1), v.valid) for p, v in ((p1, v1), (p2, v2))]
            q1, q2 = (torch.where(valid, p, value).requires_grad_() for p, valid in sides)
            result = consistency_loss(q1, v1, q2, v2, loss=loss, activation=None)
            results.append((result.detach(), *torch.autograd.grad(result, (q1, q2))))
        assert results[0][0] > 0
        for clean, dirty in zip(*results, strict=True):
            assert torch.equal(clean, dirty)

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_certain_predictions_give_finite_loss_and_gradient(self, loss, case):
        p1, v1, p2, v2 = case
        p1, p2 = (1e4 * p.detach().float() for p in (p1, p2))
        p1.requires_grad_()
        p2.requires_grad_()
        result = consistency_loss(p1, v1, p2, v2, loss=loss)
        result.backward()
        assert result.isfinite()
        assert p1.grad.isfinite().all()
        assert p2.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"loss": "l1"}, "loss must be one of"),
        ({"classes": "max"}, "classes must be one of"),
        ({"activation": "sigmoid"}, "activation must be"),
        ({"detach": 3}, "detach must be"),
    ],
)
def test_unknown_choices_are_errors(options, named, case):
    with pytest.raises(ArgumentError, match=named):
        consistency_loss(*case, **options)


def test_predictions_of_different_shape_are_errors(case):
    p1, v1, p2, v2 = case
    with pytest.raises(ArgumentError, match="pred1 and pred2 must have one shape"):
        consistency_loss(p1[:, :2], v1, p2, v2)


class TestEveryOption:
    """All options at once against numpy: undone by the loops of the warp's oracle, at full size and at stride 4."""

    FRAME = (16, 24)

    def views(self, stride, seed=3, gap=False):
        images = torch.zeros(2, 1, *self.FRAME, dtype=torch.float64)
        seen = torch.ones(2, 1, *self.FRAME, dtype=torch.bool)
        seen[0, 0, 5:7, 3:9] = not gap
        seen[1, 0, 12:, 20:] = not gap
        seeds = torch.arange(2) + 10 * seed
        mild = RandomAffine(degrees=15, translate=(0.1, 0.1), scale=(0.8, 1.3))
        return mild(images, valid=seen, seed=seeds), mild(images, valid=seen, seed=seeds + 5)

    def undone(self, prediction, view, stride, oracle):
        """Values and validity in the source frame: cells of stride x stride px stand at their middles."""
        first = (stride - 1) / 2
        stand = np.array([[stride, 0, first], [0, stride, first], [0, 0, 1.0]])
        matrix = np.linalg.inv(stand) @ view.transform.matrix.numpy() @ stand
        blocks = view.valid.numpy().reshape(2, 1, 16 // stride, stride, 24 // stride, stride)
        whole = torch.from_numpy(blocks.all((3, 5)))
        home = torch.from_numpy(np.linalg.inv(matrix))
        return oracle(torch.from_numpy(prediction), home, (16 // stride, 24 // stride), valid=whole)

    def written_out(self, p1, v1, p2, v2, stride, oracle, *, loss, activation, classes, detach, mask):
        numbers = [softmax(p.detach().numpy()) if activation else p.detach().numpy() for p in (p1, p2)]
        (p, here), (q, there) = (self.undone(n, v, stride, oracle) for n, v in zip(numbers, (v1, v2), strict=True))
        total, count = 0.0, 0
        for b, i, j in np.ndindex(p.shape[0], *p.shape[2:]):
            if mask and not (here[b, 0, i, j] and there[b, 0, i, j]):
                continue
            count += 1
            a, c = p[b, :, i, j], q[b, :, i, j]
            if loss == "mse":
                total += ((a - c) ** 2).sum()
            else:
                forward, backward = (a * np.log(a / c)).sum(), (c * np.log(c / a)).sum()
                total += {None: (forward + backward) / 2, 1: forward, 2: backward}[detach]
        return total / count / (p.shape[1] if classes == "mean" else 1), count

    @pytest.mark.parametrize("gap", [False, True])
    @pytest.mark.parametrize("stride", [1, 4])
    @pytest.mark.parametrize("detach", [None, 1, 2])
    @pytest.mark.parametrize("classes", ["mean", "sum"])
    @pytest.mark.parametrize("activation", ["softmax", None])
    # Without the mask KL would meet the fill, which is no distribution.
    @pytest.mark.parametrize(("loss", "mask"), [("mse", True), ("mse", False), ("kl", True)])
    def test_value_and_count(self, loss, mask, activation, classes, detach, stride, gap, rng, brute_force_warp):
        v1, v2 = self.views(stride, gap=gap)
        logits = torch.randn(2, 2, 3, 16 // stride, 24 // stride, generator=rng, dtype=torch.float64)
        p1, p2 = logits if activation else logits.softmax(2)
        options = {"loss": loss, "activation": activation, "classes": classes, "detach": detach, "mask": mask}
        expected, count = self.written_out(p1, v1, p2, v2, stride, brute_force_warp, **options)
        assert expected > 1e-3
        assert count > 5
        terms = consistency_terms(p1, v1, p2, v2, **options)
        assert_close(terms.loss.item(), expected, rtol=1e-10, atol=0)
        assert terms.count == count
        assert_close(consistency_loss(p1, v1, p2, v2, **options).item(), expected, rtol=1e-10, atol=0)

    def test_the_gap_and_the_stride_matter(self, rng):
        p = torch.randn(2, 2, 3, 16, 24, generator=rng, dtype=torch.float64)
        coarse = torch.nn.functional.avg_pool2d(p.flatten(0, 1), 4).unflatten(0, (2, 2))
        counts = [
            int(consistency_terms(one, *pair[:1], other, *pair[1:]).count)
            for one, other in (p, coarse)
            for pair in (self.views(1), self.views(1, gap=True))
        ]
        assert counts[1] < counts[0] - 10
        assert counts[3] < counts[2]
        assert counts[2] < counts[0] / 16

    @pytest.mark.parametrize("stride", [1, 4])
    @pytest.mark.parametrize("loss", ["mse", "kl"])
    @pytest.mark.parametrize("activation", ["softmax", None])
    def test_no_pixel_valid_in_both_views_gives_0_and_zero_gradient_not_nan(self, activation, loss, stride, rng):
        v1, v2 = self.views(stride)
        left, right = torch.zeros_like(v1.valid), torch.zeros_like(v2.valid)
        left[..., :6], right[..., 18:] = True, True
        v1, v2 = View(v1.image, v1.valid & left, v1.transform), View(v2.image, v2.valid & right, v2.transform)
        assert v1.valid.any()
        assert v2.valid.any()
        logits = torch.randn(2, 2, 3, 16 // stride, 24 // stride, generator=rng).softmax(2)
        if activation is None:
            logits[:, :, :, 0, 0] = torch.nan
        p1, p2 = (p.clone().requires_grad_() for p in logits)
        terms = consistency_terms(p1, v1, p2, v2, loss=loss, activation=activation)
        result = terms.loss
        result.backward()
        assert terms.count == 0
        assert result == 0
        for p in (p1, p2):
            assert torch.equal(p.grad, torch.zeros_like(p))

    @pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("stride", [1, 4])
    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_from_the_draw_to_the_loss_autocast_changes_no_bit(self, loss, stride, cast, rng):
        images = torch.rand(2, 3, *self.FRAME, generator=rng)
        logits = torch.randn(2, 2, 3, 16 // stride, 24 // stride, generator=rng)

        def chain():
            perturb = RandomAffine(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25), shear=5)
            v1, v2 = (perturb(images, seed=torch.arange(2) + k) for k in (0, 9))
            p1, p2 = (p.clone().requires_grad_() for p in logits)
            result = consistency_loss(p1, v1, p2, v2, loss=loss)
            result.backward()
            return v1.transform.matrix, v1.image, v1.valid, result.detach(), p1.grad, p2.grad

        plain = chain()
        with torch.autocast("cpu", cast):
            assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == cast
            under = chain()
        assert plain[3] > 0
        for a, b in zip(plain, under, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)

    @pytest.mark.parametrize("loss", ["mse", "kl"])
    def test_gradient_of_stride_4_predictions_by_finite_differences(self, loss, rng):
        v1, v2 = self.views(4)
        p1, p2 = (torch.randn(2, 2, 4, 6, generator=rng, dtype=torch.float64).requires_grad_() for _ in "12")
        assert consistency_terms(p1, v1, p2, v2).count > 5
        assert gradcheck(lambda a, b: consistency_loss(a, v1, b, v2, loss=loss), (p1, p2))
