"""Hung's discriminator: its shape, how it learns, and that a saved one goes on."""

import copy
import io
from itertools import pairwise

import numpy as np
import pytest
import torch

from s4aug_train.methods.discriminator import Discriminator
from s4aug_train.methods.hung import discriminator_loss


@pytest.fixture
def make_d():
    """A function that makes a small one, for six classes."""

    def make(*, rate=1e-3, steps=100, width=8):
        torch.manual_seed(0)
        return Discriminator(6, rate=rate, steps=steps, width=width)

    return make


@pytest.fixture
def step():
    """A function that lets one learn from a batch of maps and labels, and returns its loss."""

    def step(d, maps, labels):
        loss = discriminator_loss(d, maps, labels)
        d.zero_grad(set_to_none=True)
        loss.backward()
        d.after_step(None, torch.tensor(False, device=maps.device))
        return float(loss.detach())

    return step


@pytest.fixture
def examples():
    """Maps [2, 6, 64, 64] of a vague prediction, and labels of large fields, a few of them ignored."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 6, (2, 4, 4), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    maps = torch.randn(2, 6, 64, 64, generator=generator).softmax(1)
    labels[:, :5] = 255
    return maps, labels


def test_it_has_the_five_layers_of_the_paper():
    d = Discriminator(6, rate=1e-4, steps=10)
    widths = [6, 64, 128, 256, 512, 1]
    expected = sum(16 * before * after + after for before, after in pairwise(widths))
    assert sum(parameter.numel() for parameter in d.parameters()) == expected == 2_767_809
    group = d.optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (1e-4, (0.9, 0.99))


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (31, 33), (1, 5), (100, 70)])
def test_there_is_a_logit_for_every_pixel(size, make_d):
    d = make_d()
    maps = torch.rand(2, 6, *size, requires_grad=True)
    logits = d(maps)
    assert logits.shape == (2, 1, *size)
    logits.sum().backward()
    # Every pixel is seen, the last rows and columns too.
    assert (maps.grad.abs().sum(1) > 0).all()


def test_a_logit_stands_where_it_looks(make_d):
    d = make_d()
    with torch.no_grad():
        for layer in d.layers:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.fill_(1.0)
                layer.bias.zero_()
    maps = torch.zeros(1, 6, 160, 160, requires_grad=True)
    d(maps)[0, 0, 79:81, 79:81].sum().backward()
    seen = maps.grad[0, 0].double()
    # Nothing but symmetric kernels: what the centre looks at lies around the centre.
    torch.testing.assert_close(seen, seen.flip(0), rtol=1e-4, atol=0)
    torch.testing.assert_close(seen, seen.flip(1), rtol=1e-4, atol=0)


def test_it_learns_to_tell_truth_from_predictions(make_d, step, examples):
    d = make_d()
    losses = [step(d, *examples) for _ in range(50)]
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert losses[-1] < 0.1
    assert int(d.done) == 50


def test_its_rate_falls_to_zero(make_d, step, examples):
    d = make_d(rate=1e-4, steps=8)
    for done in range(8):
        assert float(d.learning_rate()) == pytest.approx(1e-4 * (1 - done / 8) ** 0.9, rel=1e-5)
        step(d, *examples)
        assert float(d.optimizer.param_groups[0]["lr"]) == pytest.approx(1e-4 * (1 - done / 8) ** 0.9, rel=1e-5)
    before = copy.deepcopy(list(d.parameters()))
    # Beyond the run it stands still.
    step(d, *examples)
    assert all(torch.equal(*pair) for pair in zip(before, d.parameters(), strict=True))


def test_a_step_is_adam(make_d, step, examples):
    d = make_d(rate=0.01, steps=4)
    values = [parameter.detach().double().numpy() for parameter in d.parameters()]
    moments = [(np.zeros(value.shape), np.zeros(value.shape)) for value in values]
    for n in range(1, 4):
        gradients = torch.autograd.grad(discriminator_loss(d, *examples), list(d.parameters()))
        step(d, *examples)
        rate = 0.01 * (1 - (n - 1) / 4) ** 0.9
        for i, gradient in enumerate(gradient.double().numpy() for gradient in gradients):
            first, second = moments[i]
            first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
            moments[i] = first, second
            values[i] = values[i] - rate * (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.99**n)) + 1e-8)
    for value, parameter in zip(values, d.parameters(), strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-4, atol=1e-5)


def test_judging_gives_no_gradient_to_the_judge(make_d):
    d = make_d()
    maps = torch.rand(1, 6, 64, 64, requires_grad=True)
    judged = d.judge(maps)
    assert torch.equal(judged, d(maps))
    judged.sum().backward()
    assert maps.grad.abs().sum() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in d.parameters())


@pytest.mark.parametrize("done", [0, 3])
def test_a_saved_one_goes_on_bit_by_bit(done, make_d, step, examples):
    first = make_d()
    for _ in range(done):
        step(first, *examples)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    kept = copy.deepcopy(saved)
    torch.manual_seed(9)
    second = Discriminator(6, rate=1e-3, steps=100, width=8)
    second.load_state_dict(saved)
    for _ in range(3):
        assert step(first, *examples) == step(second, *examples)
    assert int(second.done) == done + 3
    mine, other = first.state_dict(), second.state_dict()
    assert all(torch.equal(mine[key], other[key]) for key in mine if key != "_extra_state")
    # What was loaded is not written to.
    for index, moments in saved["_extra_state"]["state"].items():
        assert all(torch.equal(value, kept["_extra_state"]["state"][index][name]) for name, value in moments.items())


def test_a_state_of_another_one_does_not_fit(make_d):
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_d().load_state_dict(make_d(width=16).state_dict())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_it_learns_alike_recorded_or_not(make_d, examples):
    maps, labels = (part.cuda() for part in examples)

    def descend(d):
        loss = discriminator_loss(d, maps, labels)
        d.zero_grad(set_to_none=True)
        loss.backward()
        d.after_step(None, torch.tensor(False, device=maps.device))

    plain, recorded = make_d().cuda(), make_d().cuda()
    for _ in range(10):
        descend(plain)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            descend(recorded)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        descend(recorded)
    for _ in range(7):
        graph.replay()
    assert int(plain.done) == int(recorded.done) == 10
    for mine, other in zip(plain.parameters(), recorded.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
