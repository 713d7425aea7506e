"""Virtual adversarial training: the perturbation that is found, and what the search leaves alone."""

import copy

import numpy as np
import pytest
import torch

from s4aug import AffineTransform, View
from s4aug_train.config import MethodConfig
from s4aug_train.methods.s4net import compared
from s4aug_train.methods.teacher import still
from s4aug_train.methods.vat import adversarial_view, clean_prediction, scaled, signs_like

NAMES = ("vat", "vat+affine")


def network_with_context():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 5, padding=2),
        torch.nn.BatchNorm2d(12),
        torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(12, 6, 3, padding=1),
    )


def some_view(batch=2, size=(24, 20), hidden=0.3):
    """Random pixels, some not real: 0 there, as views have it."""
    generator = torch.Generator().manual_seed(1)
    valid = torch.rand(batch, 1, *size, generator=generator) >= hidden
    image = torch.where(valid, torch.randn(batch, 3, *size, generator=generator), 0.0)
    return View(image, valid, AffineTransform.identity(batch, size))


def attacked(network, view, *, beside=(), **settings):
    config = MethodConfig(**{"loss": "kl", **settings})
    fixed = still(network)
    target = clean_prediction(fixed, view.image, list(beside))
    seeds = torch.arange(len(view.image)) + 7
    worst = adversarial_view(fixed, view, target, view, config=config, beside=list(beside), seeds=seeds)
    return worst, target, config


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("radius", [0.1, 2.0])
def test_the_perturbation_has_its_size_over_real_elements_and_is_zero_elsewhere(iterations, radius):
    view = some_view()
    worst, _, _ = attacked(network_with_context(), view, vat_radius=radius, vat_iterations=iterations)
    moved = (worst.image.double() - view.image.double()).numpy()
    for sample, valid in zip(moved, view.valid.numpy(), strict=True):
        real = np.broadcast_to(valid, sample.shape)
        assert np.sqrt((sample[real] ** 2).mean()) == pytest.approx(radius, rel=1e-4)
        assert (sample[~real] == 0).all()


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_it_does_more_than_any_random_direction_of_its_size_and_more_so_by_iteration(loss):
    network, view = network_with_context(), some_view()
    found = [attacked(network, view, loss=loss, vat_iterations=iterations) for iterations in (1, 2, 5)]
    _, target, config = found[0]

    @torch.no_grad()
    def moved_by(image):
        return float(compared(config, target, view, network(image), view, detach=1).loss)

    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(view.image.shape, generator=generator) for _ in range(20)]
    random = [moved_by(view.image + scaled(direction, view.valid, config.vat_radius)) for direction in drawn]
    once, twice, more = (moved_by(worst.image) for worst, _, _ in found)
    assert once > 2 * max(random)
    assert once < twice < more


def test_one_iteration_follows_the_gradient_by_finite_differences(pixelwise):
    network, view = pixelwise(4), some_view(size=(6, 5))
    worst, _, _ = attacked(network, view, vat_probe=0.3, vat_radius=1.0)
    weight = network.conv.weight.detach().double().numpy()[:, :, 0, 0]
    bias = network.conv.bias.detach().double().numpy()
    image, valid = view.image.double().numpy(), view.valid.numpy()
    start = scaled(signs_like(view.image, torch.arange(2) + 7), view.valid, 0.3).double().numpy()

    def probabilities(pixel):
        logits = weight @ pixel + bias
        power = np.exp(logits - logits.max())
        return power / power.sum()

    def divergence(pixel, moved):
        p, q = probabilities(pixel), probabilities(moved)
        return (p * np.log(p / q)).sum()

    expected = np.zeros_like(image)
    for b, y, x in np.ndindex(2, 6, 5):
        if not valid[b, 0, y, x]:
            continue
        for c in range(3):
            step = np.zeros(3)
            step[c] = 1e-5
            here, there = image[b, :, y, x], image[b, :, y, x] + start[b, :, y, x]
            expected[b, c, y, x] = (divergence(here, there + step) - divergence(here, there - step)) / 2e-5
    for b in range(2):
        expected[b] /= np.sqrt((expected[b] ** 2).sum() / (3 * valid[b].sum()))
    np.testing.assert_allclose((worst.image - view.image).numpy(), expected, atol=1e-3)


def test_the_search_moves_no_running_statistics_and_leaves_no_gradient():
    network = network_with_context()
    before = copy.deepcopy(network.state_dict())
    attacked(network, some_view(), vat_iterations=3)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_counts_as_one_forward_for_running_statistics(name, make, make_batch, run):
    network, method = network_with_context(), make(name, **{"method.vat_iterations": 2})
    run(method, network, make_batch(method, step=90))
    assert network[1].num_batches_tracked == 1


def test_a_sample_without_gradient_or_without_pixels_stays_as_it_is(pixelwise):
    view = some_view()
    valid = view.valid.clone()
    valid[0] = False
    view = View(torch.where(valid, view.image, 0.0), valid, view.transform)
    worst, _, _ = attacked(pixelwise(), view)
    assert torch.equal(worst.image[0], view.image[0])
    assert not torch.equal(worst.image[1], view.image[1])
    constant = pixelwise()
    torch.nn.init.zeros_(constant.conv.weight)
    worst, _, _ = attacked(constant, view)
    assert torch.equal(worst.image, view.image)


def test_the_search_is_in_float32_under_autocast():
    network, view = network_with_context(), some_view()
    plain, _, _ = attacked(network, view)
    with torch.autocast("cpu", torch.bfloat16):
        automatic, target, _ = attacked(network, view)
    assert target.dtype == torch.float32
    assert torch.equal(plain.image, automatic.image)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_under_autocast_is_near_that_in_float32(name, make, make_batch, run):
    method = make(name, **{"method.vat_radius": 1.0})
    batch = make_batch(method, step=99)
    plain = run(method, network_with_context(), batch)
    network = network_with_context()
    with torch.autocast("cpu", torch.bfloat16):
        losses = run(method, network, batch)
    losses.total.backward()
    torch.testing.assert_close(losses.unsupervised, plain.unsupervised, rtol=0.1, atol=0)
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("forward", ["joint", "separate"])
def test_without_a_radius_nothing_is_left_of_it(forward, make, make_batch, run):
    settings = {"method.vat_radius": 0.0, "method.forward": forward}
    batch = make_batch(make("s4net"), step=99)
    # The target and the prediction saw the same images in BatchNorm.
    assert abs(float(run(make("vat", **settings), network_with_context(), batch).unsupervised)) < 1e-9
    affine = run(make("vat+affine", **settings), network_with_context(), batch)
    torch.testing.assert_close(affine.total, run(make("s4net", **settings), network_with_context(), batch).total)


@pytest.mark.parametrize("forward", ["joint", "separate"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_grows_with_the_radius(name, forward, make, make_batch, run):
    def unsupervised(radius):
        method = make(name, **{"method.vat_radius": radius, "method.forward": forward})
        return float(run(method, network_with_context(), make_batch(method, step=99)).unsupervised)

    small, medium, large = map(unsupervised, (0.01, 0.1, 1.0))
    assert small < medium < large


def test_the_target_is_the_clean_prediction_without_gradient(make, make_batch, pixelwise):
    method, network = make("vat", **{"train.flips": False, "method.vat_radius": 0.5}), pixelwise()
    batch = make_batch(method, step=99)
    losses = method.losses(network, batch, None)
    shown = []  # (images, prediction): clean, probed, with the perturbation
    network.register_forward_hook(lambda module, given, made: shown.append((given[0], made)))
    method.losses(network, batch, None)
    (_, clean), _, (_, moved) = shown
    p, q = clean[4:].softmax(1).double().detach().numpy(), moved[4:].softmax(1).double().detach().numpy()
    total = 0.0
    for b, y, x in np.ndindex(2, 64, 64):
        total += (p[b, :, y, x] * np.log(p[b, :, y, x] / q[b, :, y, x])).sum()
    assert float(losses.unsupervised) == pytest.approx(total / (2 * 64 * 64), rel=1e-4)
    assert not clean.requires_grad


def test_directions_are_random_signs_and_those_of_their_sample_alone():
    images = torch.zeros(3, 3, 31, 33)
    numbers = signs_like(images, torch.tensor([1, 2, 3]))
    assert numbers.shape == images.shape
    assert torch.equal(numbers[1:2], signs_like(images[:1], torch.tensor([2])))
    assert abs(numbers.mean()) < 0.03
    assert abs(numbers.std() - 1) < 0.03
    assert (numbers.abs() == 1).all()
    # Neighbours are bits of one word: they must not be alike.
    flat = numbers.flatten(1)
    for shift in (1, 2, 31, 32, 33):
        alike = (flat * flat.roll(shift, 1)).mean()
        assert abs(alike) < 0.05
    assert abs(np.corrcoef(numbers.flatten(1).numpy())[np.triu_indices(3, 1)]).max() < 0.06


def test_each_step_looks_from_another_direction(make, make_batch, run):
    def found(step):
        method = make("vat")
        batch = make_batch(method, step=step)
        return signs_like(torch.zeros(2, 3, 8, 8), batch.seeds("vat", 2))

    assert torch.equal(found(3), found(3))
    assert not torch.allclose(found(3), found(4))


def test_a_compiled_network_is_searched_too(make, make_batch, run):
    method = make("vat")
    batch = make_batch(method, step=99)
    expected = run(method, network_with_context(), batch).total
    network = network_with_context()
    network.compile(backend="aot_eager")
    torch.testing.assert_close(run(method, network, batch).total, expected)
