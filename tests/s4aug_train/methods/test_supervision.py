"""The supervised loss: cross entropy, class weights, Dice, flips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from s4aug_train.data.normalization import Normalization
from s4aug_train.methods import Setup
from s4aug_train.methods.supervision import cross_entropy, dice_loss, labelled_images, supervised_loss
from s4aug_train.presets import configured

IGNORED = 255


def test_the_loss_is_the_mean_cross_entropy_of_the_pixels(make, make_batch, pixelwise, run, normalization):
    # A pixelwise network does not see flips, so plain crops must give the same loss.
    batch, network = make_batch(), pixelwise()
    mean, std = (torch.tensor(part)[:, None, None] for part in (normalization.mean, normalization.std))
    images = (batch.labeled.images.float() - mean) / std
    log_p = network(images).log_softmax(1).detach().numpy()
    labels = batch.labeled.labels[:, 0].numpy()
    b, y, x = np.nonzero(labels != IGNORED)
    expected = -log_p[b, labels[b, y, x], y, x].mean()
    assert float(run(make("supervised"), network, batch).supervised) == pytest.approx(expected, rel=1e-5)


def test_flips_move_labels_with_the_image(make_batch):
    batch = make_batch(labelled=40)
    setup = Setup(configured({}), Normalization((0.0,) * 3, (1.0,) * 3, "measured"), 6)
    images, labels = labelled_images(setup, batch)
    kinds = set()
    for i in range(40):
        for kind, dims in {"none": (), "h": (2,), "v": (1,), "both": (1, 2)}.items():
            if torch.equal(images[i], batch.labeled.images[i].flip(dims).float()):
                kinds.add(kind)
                assert torch.equal(labels[i], batch.labeled.labels[i].flip(dims)[0].long())
                break
        else:
            pytest.fail("an image is no flip of its crop")
    assert kinds == {"none", "h", "v", "both"}


def test_without_flips_crops_are_shown_as_they_lie(make_batch):
    batch = make_batch(labelled=9)
    setup = Setup(configured({"train.flips": False}), Normalization((0.0,) * 3, (1.0,) * 3, "measured"), 6)
    images, labels = labelled_images(setup, batch)
    assert torch.equal(images, batch.labeled.images.float())
    assert torch.equal(labels, batch.labeled.labels[:, 0].long())


def some(classes=6, ignored=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 9, 7, generator=generator)
    labels = torch.randint(0, classes, (2, 9, 7), generator=generator)
    hidden = torch.rand(labels.shape, generator=generator) < ignored
    return logits, torch.where(hidden, IGNORED, labels)


def test_half_precision_is_computed_in_float32():
    logits, labels = some()
    half = logits.bfloat16()
    assert cross_entropy(half, labels).dtype == torch.float32
    torch.testing.assert_close(cross_entropy(half, labels), F.cross_entropy(half.float(), labels, ignore_index=IGNORED))


def test_class_weights_weigh_each_pixel_by_its_class():
    logits, labels = some()
    weights = (1.0, 0.5, 2.0, 0.0, 3.0, 1.0)
    total = count = 0.0
    log_p = logits.log_softmax(1)
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label != IGNORED:
            total -= weights[label] * float(log_p[b, label, y, x])
            count += weights[label]
    assert float(cross_entropy(logits, labels, weights)) == pytest.approx(total / count, rel=1e-5)


def test_a_batch_of_classes_without_weight_gives_zero():
    logits, labels = some()
    logits.requires_grad_()
    only = torch.where(labels == IGNORED, IGNORED, 2)
    loss = cross_entropy(logits, only, (1.0, 1.0, 0.0, 1.0, 1.0, 1.0))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_dice_by_a_plain_loop():
    logits, labels = some()
    labels = torch.where(labels == 4, 3, labels)  # class 4 is absent: it counts nowhere
    p = logits.softmax(1).numpy().astype(np.float64)
    truth, known = labels.numpy(), labels.numpy() != IGNORED
    coefficients = []
    for k in range(6):
        here = truth == k
        if here.any():
            coefficients.append(2 * p[:, k][here].sum() / (p[:, k][known].sum() + here.sum()))
    assert len(coefficients) == 5
    assert float(dice_loss(logits, labels)) == pytest.approx(1 - np.mean(coefficients), rel=1e-5)


def test_dice_ignores_what_is_ignored_and_is_zero_without_labels():
    logits, labels = some()
    poisoned = torch.where((labels == IGNORED)[:, None], torch.nan, logits).requires_grad_()
    loss = dice_loss(poisoned, labels)
    torch.testing.assert_close(loss, dice_loss(logits, labels))
    loss.backward()
    assert torch.isfinite(poisoned.grad).all()
    assert dice_loss(logits, torch.full_like(labels, IGNORED)).item() == 0


def test_a_perfect_prediction_has_no_dice_loss():
    _, labels = some()
    logits = 50 * F.one_hot(labels.where(labels != IGNORED, 0), 6).permute(0, 3, 1, 2).float()
    assert float(dice_loss(logits, labels)) == pytest.approx(0, abs=1e-5)


def test_dice_is_added_with_its_weight(make_batch):
    logits, labels = some()
    setup = Setup(configured({"train.dice": 0.5}), Normalization((0.0,) * 3, (1.0,) * 3, "measured"), 6)
    expected = cross_entropy(logits, labels) + 0.5 * dice_loss(logits, labels)
    torch.testing.assert_close(supervised_loss(setup, make_batch(), logits, labels), expected)


def test_logits_of_a_stride_are_interpolated_to_the_labels(make_batch):
    logits, _ = some()
    wide = torch.randint(0, 6, (2, 36, 28))
    setup = Setup(configured({}), Normalization((0.0,) * 3, (1.0,) * 3, "measured"), 6)
    raised = F.interpolate(logits, (36, 28), mode="bilinear", align_corners=False)
    torch.testing.assert_close(supervised_loss(setup, make_batch(), logits, wide), cross_entropy(raised, wide))
