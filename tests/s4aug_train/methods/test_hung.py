"""Hung et al.: the four losses against loops over pixels, when they count, and what is left alone."""

import copy

import numpy as np
import pytest
import torch

from s4aug_train.methods.discriminator import Discriminator
from s4aug_train.methods.hung import self_taught, told, truth_maps


def cross_entropies(logits, labels):
    """Cross entropy of every pixel with a label, in the order of the pixels."""
    found = []
    for b, row, column in np.ndindex(labels.shape):
        if labels[b, row, column] != 255:
            scores = logits[b, :, row, column].astype(np.float64)
            found.append(np.log(np.exp(scores).sum()) - scores[labels[b, row, column]])
    return found


def binary_loss(judgement, counted, truth):
    """Binary cross entropy, pixel by pixel."""
    found = []
    for index in np.ndindex(judgement.shape):
        if counted[index]:
            p = 1 / (1 + np.exp(-float(judgement[index])))
            found.append(-np.log(p if truth else 1 - p))
    return np.mean(found) if found else 0.0


def probabilities(logits, counted):
    """Softmax [B, K, h, w], 0 where nothing counts."""
    shown = np.exp(logits.astype(np.float64))
    return (shown / shown.sum(1, keepdims=True) * counted).astype(np.float32)


@pytest.fixture
def holed(make_tile):
    """Tiles with nodata in a corner and ignored pixels beside it."""

    def make(seed):
        valid = np.ones((80, 96), bool)
        valid[:45, :40] = False
        tile = make_tile((80, 96), name=f"holed{seed}", seed=seed, valid=valid)
        tile.labels[30:60, 30:70] = 255
        return tile

    return [make(seed) for seed in range(5)]


@pytest.fixture
def sharp():
    """A function that makes a discriminator sure of itself, so that its judgements differ from pixel to pixel."""

    def sharpen(d):
        with torch.no_grad():
            d.layers[-1].weight.mul_(60)
            d.layers[0].weight.mul_(3)
        return d

    return sharpen


@pytest.fixture
def narrow():
    """A function that makes a discriminator of few channels, for speed."""

    def make(rate=1e-3):
        torch.manual_seed(0)
        return Discriminator(6, rate=rate, steps=1000, width=8)

    return make


class Recorder(torch.nn.Module):
    """A 1x1 convolution that keeps what it was shown and what it said."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 1)
        self.seen = []

    def forward(self, images):
        logits = self.conv(images)
        self.seen.append((images.detach().numpy(), logits.detach().numpy()))
        return logits


def test_told_is_binary_cross_entropy_over_what_counts():
    generator = torch.Generator().manual_seed(0)
    judgement = torch.randn(2, 1, 5, 7, generator=generator) * 3
    counted = torch.rand(2, 1, 5, 7, generator=generator) > 0.4
    for truth in (True, False):
        expected = binary_loss(judgement.numpy(), counted.numpy(), truth)
        assert float(told(judgement, counted, truth=truth)) == pytest.approx(expected, rel=1e-5)
        assert float(told(judgement, torch.zeros_like(counted), truth=truth)) == 0


def test_self_taught_is_cross_entropy_with_its_own_labels_where_they_are_trusted():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 5, 7, generator=generator)
    trusted = torch.rand(2, 1, 5, 7, generator=generator) > 0.6
    labels = np.where(trusted[:, 0].numpy(), logits.numpy().argmax(1), 255)
    expected = np.mean(cross_entropies(logits.numpy(), labels))
    assert float(self_taught(logits, trusted)) == pytest.approx(expected, rel=1e-5)
    assert float(self_taught(logits, torch.zeros_like(trusted))) == 0


def test_truth_is_one_hot_and_nothing_where_it_is_ignored():
    labels = torch.tensor([[[0, 2], [255, 1]]])
    maps = truth_maps(labels, 3)
    assert maps.tolist() == [[[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]]]


def test_the_total_is_the_four_losses_of_the_paper(make, make_batch, holed, sharp):
    method = make(
        "hung",
        **{
            "train.flips": False,
            "method.forward": "separate",
            "method.threshold": 0.5,
            "method.adversarial": 0.3,
            "method.adversarial_unlabeled": 0.2,
            "method.weight": 0.7,
        },
    )
    network = Recorder()
    d = sharp(method.partner(network))
    batch = make_batch(method, step=90, tiles=holed)
    losses = method.losses(network, batch, d)
    (_, logits), (_, guess) = network.seen
    valid = batch.labeled.valid.numpy().reshape(4, 64, 64)
    labels = np.where(valid, batch.labeled.labels.numpy().reshape(4, 64, 64), 255).astype(int)
    real = batch.unlabeled.valid.numpy().reshape(2, 1, 64, 64)
    known = (labels != 255)[:, None]
    assert 0.2 < known.mean() < 0.95
    assert 0.2 < real.mean() < 0.95

    def judged(maps):
        with torch.no_grad():
            return d(torch.from_numpy(maps)).numpy()

    one_hot = np.stack([(labels == k) for k in range(6)], 1).astype(np.float32)
    fake, true = judged(probabilities(logits, known)), judged(one_hot)
    confidence = judged(probabilities(guess, real))
    trusted = real & (1 / (1 + np.exp(-confidence)) > 0.5)
    assert 0.1 < trusted.sum() / real.sum() < 0.9
    taught = np.mean(cross_entropies(guess, np.where(trusted[:, 0], guess.argmax(1), 255)))
    supervised = np.mean(cross_entropies(logits, labels))
    passing, passing_unlabeled = binary_loss(fake, known, True), binary_loss(confidence, real, True)

    assert float(losses.supervised) == pytest.approx(supervised, rel=1e-4)
    assert float(losses.unsupervised) == pytest.approx(taught, rel=1e-4)
    assert float(losses.valid_fraction) == pytest.approx(trusted.mean(), abs=1e-3)
    assert float(losses.extra["loss_adversarial"]) == pytest.approx(passing, rel=1e-4)
    expected = supervised + 0.3 * passing + 0.2 * passing_unlabeled + 0.7 * taught
    assert float(losses.total.detach()) == pytest.approx(expected, rel=1e-4)
    halves = binary_loss(fake, known, False), binary_loss(true, known, True)
    assert float(losses.partner.detach()) == pytest.approx(sum(halves) / 2, rel=1e-4)
    assert float(losses.extra["loss_discriminator"]) == float(losses.partner.detach())


@pytest.mark.parametrize("weight", [0.1, 0.0])
def test_unlabelled_images_count_from_the_start_on(weight, make, make_batch, pixelwise, narrow):
    settings = {"train.steps": 20, "method.semi_start": 0.25, "method.weight": weight}
    method = make("hung", **settings, **{"method.adversarial_unlabeled": 0.5})
    network, partner = pixelwise(), narrow()
    for step in range(8):
        losses = method.losses(network, make_batch(method, step=step), partner)
        labelled = losses.supervised + 0.01 * losses.extra["loss_adversarial"]
        rest = float(losses.total.detach() - labelled)
        assert method.weight(step) == (weight if step >= 5 else 0)
        assert (rest > 0.1) == (step >= 5)
        assert rest == pytest.approx(0, abs=1e-6) or step >= 5
        partner.zero_grad()
        losses.partner.backward()
        partner.after_step(network, torch.tensor(False))


def test_before_the_start_unlabelled_images_give_no_gradient(make, make_batch, pixelwise):
    method = make("hung", **{"method.forward": "separate"})
    network = pixelwise()
    shown = []

    def forward(images):
        logits = network(images)
        logits.retain_grad()
        shown.append(logits)
        return logits

    for step, counts in ((4, False), (5, True)):
        shown.clear()
        method.losses(forward, make_batch(method, step=step), method.partner(network)).total.backward()
        assert shown[0].grad.abs().sum() > 0
        assert (shown[1].grad.abs().sum() > 0) == counts


@pytest.mark.parametrize(
    ("share", "steps", "first"), [(0.05, 100_000, 5000), (0.07, 100, 7), (0.0, 10, 0), (0.5, 3, 2)]
)
def test_the_start_is_a_share_of_the_steps(share, steps, first, make):
    method = make("hung", **{"method.semi_start": share, "train.steps": steps})
    assert [method.weight(step) > 0 for step in (first - 1, first, first + 1)] == [False, True, True]


def test_the_network_and_its_judge_learn_apart(make, make_batch, pixelwise):
    method, network = make("hung"), pixelwise()
    partner = method.partner(network)
    before = copy.deepcopy(partner.state_dict())
    losses = method.losses(network, make_batch(method, step=90), partner)
    assert all(torch.equal(value, before[key]) for key, value in partner.state_dict().items() if "extra" not in key)
    losses.total.backward()
    assert all(parameter.grad is None for parameter in partner.parameters())
    assert all(parameter.requires_grad for parameter in partner.parameters())
    gradient = network.conv.weight.grad.clone()
    losses.partner.backward()
    partner.after_step(network, torch.tensor(False))
    assert torch.equal(network.conv.weight.grad, gradient)
    assert all(parameter.grad.abs().sum() > 0 for parameter in partner.parameters())
    assert not torch.equal(partner.layers[0].weight, before["layers.0.weight"])


def test_the_adversarial_loss_makes_predictions_pass_for_truth(make, make_batch, pixelwise, narrow):
    settings = {"train.flips": False}
    method, network = make("hung", **settings, **{"method.adversarial": 1.0}), pixelwise()
    partner, batch = narrow(), make_batch(method)
    for _ in range(20):
        partner.zero_grad()
        method.losses(network, batch, partner).partner.backward()
        partner.after_step(network, torch.tensor(False))
    before = method.losses(network, batch, partner)
    (before.total - make("supervised", **settings).losses(network, batch, None).total).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad / parameter.grad.norm()
    after = method.losses(network, batch, partner)
    for name, grows in (("loss_adversarial", False), ("loss_discriminator", True)):
        assert (float(after.extra[name]) > float(before.extra[name])) == grows


def test_the_judge_begins_alike_whatever_was_drawn_before(make, pixelwise):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = make("hung").partner(pixelwise.__new__(pixelwise))
    assert torch.equal(torch.rand(3), expected)
    second = make("hung").partner(None)
    other = make("hung", **{"train.seed": 1}).partner(None)
    assert torch.equal(first.layers[0].weight, second.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_under_autocast_it_is_judged_in_full_precision(make, make_batch, pixelwise):
    method, network = make("hung"), pixelwise()
    partner, seen = method.partner(network), []
    partner.layers[0].register_forward_hook(lambda layer, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.losses(network, make_batch(method, step=90), partner)
    assert seen == [torch.float32, torch.float32]
    assert losses.partner.dtype == losses.total.dtype == torch.float32
    losses.total.backward()
    losses.partner.backward()
    partner.after_step(network, torch.tensor(False))
    assert torch.isfinite(network.conv.weight.grad).all()


def test_images_are_forwarded_as_one_batch_unless_it_is_said_otherwise(make, make_batch, pixelwise, run):
    joint, separate = pixelwise(), pixelwise()
    run(make("hung"), joint, make_batch())
    run(make("hung", **{"method.forward": "separate"}), separate, make_batch())
    assert joint.calls == [(6, 3, 64, 64)]
    assert separate.calls == [(4, 3, 64, 64), (2, 3, 64, 64)]
