"""FixMatch: what is taught, where, and in which frame."""

import copy

import numpy as np
import pytest
import torch

STILL = {
    "method.degrees": 0.0,
    "method.translate": 0.0,
    "method.scale_min": 1.0,
    "method.scale_max": 1.0,
    "method.shear": 0.0,
}
PLAIN = {"method.jitter": 0.0, "method.blur": 0.0}


def log_softmax(logits):
    logits = logits - logits.max()
    return logits - np.log(np.exp(logits).sum())


class Oracle:
    """Log probabilities of a pixelwise network, pixel by pixel in float64."""

    def __init__(self, network, normalization):
        self.weight = network.conv.weight.detach().double().numpy()[:, :, 0, 0]
        self.bias = network.conv.bias.detach().double().numpy()
        self.mean, self.std = np.array(normalization.mean), np.array(normalization.std)

    def __call__(self, pixel):
        return log_softmax(self.weight @ ((pixel - self.mean) / self.std) + self.bias)


def with_teacher(method, pixelwise):
    """A network, and an average that thinks otherwise."""
    network = pixelwise()
    teacher = method.partner(network)
    with torch.no_grad():
        teacher.network.conv.weight.mul_(-2)
    return network, teacher


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize("source", ["crop", "tile"])
def test_the_loss_by_a_plain_loop(flips, source, make, make_batch, make_tile, pixelwise, normalization):
    # Where nothing but flips moves, a pixelwise network predicts for each pixel of the crop.
    settings = {"method.ema": 0.9, "method.threshold": 0.4, "method.source": source, "train.flips": flips}
    method = make("fixmatch", **STILL, **PLAIN, **settings)
    valid = np.ones((80, 96), bool)
    valid[30:50, 20:60] = False
    batch = make_batch(method, step=7, tiles=[make_tile((80, 96), valid=valid)], unlabelled=3)
    network, teacher = with_teacher(method, pixelwise)
    losses = method.losses(network, batch, teacher)
    shown, sure = Oracle(network, normalization), Oracle(teacher.network, normalization)
    images, margin = batch.unlabeled.images.double().numpy(), batch.unlabeled.margin
    real = batch.unlabeled.valid.numpy()
    total, count, confident = 0.0, 0, 0
    for b, y, x in np.ndindex(3, 64, 64):
        if not real[b, 0, y + margin, x + margin]:
            continue
        pixel = images[b, :, y + margin, x + margin]
        wanted = sure(pixel)
        count += 1
        if wanted.max() >= np.log(0.4):
            confident += 1
            total -= shown(pixel)[wanted.argmax()]
    assert 0.2 < confident / count < 0.8
    assert float(losses.extra["confident"]) == pytest.approx(confident / count, abs=1e-4)
    assert float(losses.valid_fraction) == pytest.approx(count / (3 * 64 * 64))
    assert float(losses.unsupervised) == pytest.approx(total / count, rel=1e-3)


def test_thresholds_of_zero_and_one_teach_all_and_nothing(make, make_batch, pixelwise, run):
    batch = make_batch(step=5)
    every = run(make("fixmatch", **{"method.threshold": 0.0}), pixelwise(), batch)
    none = run(make("fixmatch", **{"method.threshold": 1.0}), pixelwise(), batch)
    assert float(every.extra["confident"]) == 1
    assert float(every.unsupervised) > 0
    assert float(none.extra["confident"]) == 0
    assert float(none.unsupervised) == 0
    assert torch.equal(every.valid_fraction, none.valid_fraction)


@pytest.fixture
def smooth_tile(make_tile):
    """A tile on which resampling changes little, and on which no two places look alike."""
    yy, xx = np.mgrid[:96, :96] / 96 * np.pi
    smooth = np.stack([127 + 100 * np.sin(xx + i) * np.cos(yy - i) for i in range(3)]).astype(np.float32)
    tile = make_tile((96, 96), dtype=np.float32)
    return type(tile)("smooth", smooth, tile.labels, None, tile.class_pixels, tile.band_sums)


def test_the_affine_motion_is_undone(smooth_tile, make, make_batch, pixelwise, normalization, monkeypatch):
    from s4aug_train.methods import fixmatch

    settings = {"train.crop": 96, "method.threshold": 0.0, "method.ema": 0.9}
    method = make("fixmatch", **PLAIN, **settings)
    batch = make_batch(method, step=9, tiles=[smooth_tile], crop=96)
    network, teacher = with_teacher(method, pixelwise)
    views = []
    seen = fixmatch.perturbed_view
    monkeypatch.setattr(fixmatch, "perturbed_view", lambda *given: views.append(seen(*given)) or views[-1])
    moved = method.losses(network, batch, teacher)
    compared = views[0].restore(views[0].image).valid.numpy()[:, 0]
    shown, sure = Oracle(network, normalization), Oracle(teacher.network, normalization)
    images, left = batch.unlabeled.images.double().numpy(), views[0].image.double().numpy()
    left = left * np.array(normalization.std)[:, None, None] + np.array(normalization.mean)[:, None, None]
    unmoved = not_undone = 0.0
    for b, y, x in np.argwhere(compared):
        label = sure(images[b, :, y, x]).argmax()
        unmoved -= shown(images[b, :, y, x])[label]
        not_undone -= shown(left[b, :, y, x])[label]
    assert 0.3 < compared.mean() < 0.95
    assert float(moved.valid_fraction) == pytest.approx(compared.mean())
    assert float(moved.unsupervised) == pytest.approx(unmoved / compared.sum(), rel=2e-3)
    # The comparison above can fail.
    assert not_undone / compared.sum() != pytest.approx(unmoved / compared.sum(), rel=0.02)


def test_labels_carry_no_gradient(make, make_batch, pixelwise, run):
    """Joint, separate and with an average that is still the network itself: one gradient, for there is no context."""
    batch = make_batch(step=5)

    def gradient(**settings):
        network = pixelwise()
        method = make("fixmatch", **PLAIN, **{"method.threshold": 0.3, **settings})
        losses = run(method, network, batch)
        losses.total.backward()
        return losses.total.detach(), network.conv.weight.grad

    joint = gradient()
    for other in (gradient(**{"method.forward": "separate"}), gradient(**{"method.ema": 0.9})):
        torch.testing.assert_close(joint, other)


def test_the_gradient_of_a_pixel_is_that_of_its_cross_entropy(make, make_batch, pixelwise, run):
    method = make("fixmatch", **PLAIN, **STILL, **{"method.threshold": 0.0, "method.weight": 1.0})
    batch, network = make_batch(method, step=5), pixelwise()
    losses = run(method, network, batch)
    (losses.total - run(make("supervised"), network, batch).total).backward()
    crops, reference = batch.unlabeled.images.float(), pixelwise()
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (method.setup.normalization.mean, method.setup.normalization.std)
    )
    logits = reference((crops - mean) / std)
    torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
    torch.testing.assert_close(network.conv.weight.grad, reference.conv.weight.grad, rtol=1e-3, atol=1e-6)


def test_what_is_forwarded_with_what(make, make_batch, pixelwise, run):
    batch = make_batch(step=5)
    joint, apart, taught = pixelwise(), pixelwise(), pixelwise()
    run(make("fixmatch"), joint, batch)
    assert joint.calls == [(8, 3, 64, 64)]
    run(make("fixmatch", **{"method.forward": "separate"}), apart, batch)
    assert apart.calls == [(2, 3, 64, 64), (4, 3, 64, 64), (2, 3, 64, 64)]
    method = make("fixmatch", **{"method.ema": 0.9})
    run(method, taught, batch, method.partner(taught))
    assert taught.calls == [(6, 3, 64, 64)]


@pytest.mark.parametrize("settings", [{"method.ema": 0.9}, {"method.forward": "separate"}])
def test_labelling_moves_no_running_statistics(settings, make, make_batch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6))
    method = make("fixmatch", **settings)
    teacher = method.partner(network)
    before = None if teacher is None else copy.deepcopy(teacher.state_dict())
    method.losses(network, make_batch(method, step=5), teacher)
    assert network[1].num_batches_tracked == (1 if teacher else 2)
    if before is not None:
        assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_only_the_strong_view_is_in_another_light(make, make_batch, pixelwise):
    method = make("fixmatch", **STILL, **{"train.flips": False})
    network, seen = pixelwise(), []
    network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    batch = make_batch(method, step=5)
    method.losses(network, batch, None)
    weak, strong = seen[0][4:6], seen[0][6:]
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (method.setup.normalization.mean, method.setup.normalization.std)
    )
    torch.testing.assert_close(weak, (batch.unlabeled.images.float() - mean) / std)
    assert not torch.allclose(weak, strong, atol=0.01)


@pytest.mark.parametrize("source", ["crop", "tile"])
def test_margins_are_those_of_s4net(source, make):
    assert (
        make("fixmatch", **{"method.source": source}).margins() == make("s4net", **{"method.source": source}).margins()
    )
