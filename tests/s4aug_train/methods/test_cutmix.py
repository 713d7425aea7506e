"""CutMix: which pixels come from where, what they are compared with, and how that is weighed."""

import copy

import numpy as np
import pytest
import torch

from s4aug import AffineTransform, View
from s4aug_train.errors import ConfigError
from s4aug_train.methods.cutmix import mix, mixed_target, rectangles


def softmax(logits):
    power = np.exp(logits - logits.max())
    return power / power.sum()


def test_the_loss_by_a_plain_loop(make, make_batch, make_tile, pixelwise, normalization):
    method = make("cutmix", **{"train.flips": False, "method.threshold": 0.4})
    valid = np.ones((80, 96), bool)
    valid[30:50, 20:60] = False
    tiles = [make_tile((80, 96), name="a", seed=1, valid=valid), make_tile((80, 96), name="b", seed=2)]
    batch = make_batch(method, step=7, tiles=tiles, unlabelled=3)
    student = pixelwise()
    teacher = method.partner(student)
    with torch.no_grad():
        teacher.network.conv.weight.mul_(-2)
    losses = method.losses(student, batch, teacher)

    crops = batch.unlabeled
    images, real = crops.images.double().numpy(), crops.valid.numpy()
    inside = rectangles(batch.seeds("cutmix", 3), (64, 64)).numpy()
    weight = student.conv.weight.detach().double().numpy()[:, :, 0, 0]
    bias = student.conv.bias.detach().double().numpy()
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    total, count, confident = 0.0, 0, 0
    for b, y, x in np.ndindex(3, 64, 64):
        source = (b + 1) % 3 if inside[b, 0, y, x] else b
        if not real[source, 0, y, x]:
            continue
        pixel = (images[source, :, y, x] - mean) / std
        wanted, shown = softmax(-2 * weight @ pixel + bias), softmax(weight @ pixel + bias)
        total += ((wanted - shown) ** 2).sum()
        count += 1
        confident += wanted.max() >= 0.4
    assert 0.2 < confident / count < 0.8
    assert float(losses.extra["confident"]) == pytest.approx(confident / count, abs=1e-4)
    assert float(losses.valid_fraction) == pytest.approx(count / (3 * 64 * 64))
    assert float(losses.unsupervised) == pytest.approx(total / count * confident / count, rel=1e-3)


def test_the_network_sees_the_mixed_crops_in_one_batch_with_the_labelled(make, make_batch, pixelwise, normalization):
    method = make("cutmix", **{"train.flips": False})
    batch = make_batch(method)
    network, seen = pixelwise(), []
    teacher = method.partner(network)
    network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    method.losses(network, batch, teacher)
    (joint,) = seen
    assert joint.shape == (6, 3, 64, 64)
    inside = rectangles(batch.seeds("cutmix", 2), (64, 64)).numpy()
    images = batch.unlabeled.images.numpy().astype(np.float64)
    for b, c, y, x in np.ndindex(2, 3, 64, 64):
        source = 1 - b if inside[b, 0, y, x] else b
        expected = (images[source, c, y, x] - normalization.mean[c]) / normalization.std[c]
        assert float(joint[4 + b, c, y, x]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("size", "stride"), [((16, 12), 1), ((16, 12), 4), ((17, 13), 4)])
def test_targets_of_a_stride_are_mixed_by_whole_cells(size, stride):
    generator = torch.Generator().manual_seed(0)
    height, width = size
    cells = -(-height // stride), -(-width // stride)
    valid = torch.rand(3, 1, *size, generator=generator) > 0.03
    image = torch.randn(3, 2, *size, generator=generator)
    target = torch.randn(3, 5, *cells, generator=generator)
    inside = rectangles(torch.arange(3), size)
    view = View(image, valid, AffineTransform.identity(3, size))
    mixed = mix(view, inside)
    wanted, compared = mixed_target(target, mixed, inside)
    counted = 0
    for b, i, j in np.ndindex(3, *cells):
        sources, real = set(), True
        for y in range(i * stride, min((i + 1) * stride, height)):
            for x in range(j * stride, min((j + 1) * stride, width)):
                source = (b + 1) % 3 if inside[b, 0, y, x] else b
                sources.add(source)
                real &= bool(valid[source, 0, y, x])
                assert torch.equal(mixed.image[b, :, y, x], image[source, :, y, x])
                assert mixed.valid[b, 0, y, x] == valid[source, 0, y, x]
        expected = real and len(sources) == 1
        assert bool(compared[b, 0, i, j]) == expected
        if expected:
            assert torch.equal(wanted[b, :, i, j], target[sources.pop(), :, i, j])
            counted += 1
    assert counted > 0


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (512, 512)])
def test_rectangles_have_half_the_area_and_lie_anywhere(size):
    height, width = size
    masks = rectangles(torch.arange(400) * 7919, size).numpy()[:, 0]
    corners, heights = [], []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        assert mask.sum() == (bottom - top) * (right - left)
        # Both sides are whole pixels: half a pixel of the width, along the height.
        assert abs(mask.sum() - height * width / 2) <= height / 2 + 1
        corners.append((top / max(height - (bottom - top), 1), left / max(width - (right - left), 1)))
        heights.append((bottom - top) / height)
    assert np.abs(np.mean(corners, 0) - 0.5).max() < 0.08
    # log2 of the height's share is uniform between -1 and 0.
    share = -np.log2(heights)
    assert abs(share.mean() - 0.5) < 0.05
    assert share.min() < 0.05
    assert share.max() > 0.95
    reached = masks.any(0)
    assert all(edge.any() for edge in (reached[0], reached[-1], reached[:, 0], reached[:, -1]))


def test_a_rectangle_is_that_of_its_seed_alone():
    assert torch.equal(rectangles(torch.tensor([3, 4]), (64, 64))[1:], rectangles(torch.tensor([4]), (64, 64)))


def test_the_loss_is_weighted_by_the_share_of_confident_pixels(make, make_batch, pixelwise, run):
    batch = make_batch(step=5)

    def losses(threshold):
        method, student = make("cutmix", **{"method.threshold": threshold}), pixelwise()
        teacher = method.partner(student)
        with torch.no_grad():
            teacher.network.conv.weight.mul_(3)
        return run(method, student, batch, teacher)

    every, some, none = losses(0.0), losses(0.5), losses(1.0)
    assert float(every.extra["confident"]) == 1
    assert 0.05 < float(some.extra["confident"]) < 0.95
    torch.testing.assert_close(some.unsupervised, every.unsupervised * some.extra["confident"])
    assert float(none.unsupervised) == 0


def test_without_an_average_the_network_teaches_itself_without_gradient(make, make_batch, pixelwise):
    settings = {"method.threshold": 0.0, "method.ema": 0.0}
    alone, averaged = make("cutmix", **settings), make("cutmix", **{**settings, "method.ema": 0.9})
    batch = make_batch(step=5)
    own, followed = pixelwise(), pixelwise()
    assert alone.partner(own) is None
    first = alone.losses(own, batch, None)
    second = averaged.losses(followed, batch, averaged.partner(followed))
    # At first the average is the network.
    torch.testing.assert_close(first.total, second.total)
    first.total.backward()
    second.total.backward()
    torch.testing.assert_close(own.conv.weight.grad, followed.conv.weight.grad)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_only_the_students_forward_moves_running_statistics(ema, make, make_batch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6))
    method = make("cutmix", **{"method.ema": ema})
    teacher = method.partner(network)
    before = None if teacher is None else copy.deepcopy(teacher.state_dict())
    method.losses(network, make_batch(method, step=5), teacher)
    assert network[1].num_batches_tracked == 1
    if before is not None:
        assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_one_crop_cannot_be_mixed(make):
    with pytest.raises(ConfigError, match=r"train.batch_unlabeled must be at least 2, got 1"):
        make("cutmix", **{"train.batch_unlabeled": 1})
