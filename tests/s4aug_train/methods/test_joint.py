"""Parts of a joint batch: their mean is what one batch of all would give, however unequal they are."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from s4aug_train.data.pool import Pool
from s4aug_train.engine.passes import Passes
from s4aug_train.limits import CHOICES
from s4aug_train.methods import Batch, divided
from s4aug_train.methods.joint import Noted, alone, by, known
from s4aug_train.ranks import ALONE
from s4aug_train.rng import stream_seed

# CutMix pastes from crop to crop within a part.
NAMES = [name for name in CHOICES["method.name"] if name != "cutmix"]


@pytest.fixture
def tiles(make_tile):
    """Tiles of which very different shares are real and labelled."""
    made = []
    for i, share in enumerate((1.0, 0.2, 0.7, 0.05, 0.5, 0.9)):
        valid = np.zeros((70, 90), bool)
        valid[:, : int(90 * share)] = True
        tile = make_tile((70, 90), name=str(i), seed=i, valid=valid)
        tile.labels[: int(60 * share)] = 255
        made.append(tile)
    return made


@pytest.fixture
def parts_of(tiles):
    """A function that makes a step's joint batch of 8 labelled and 8 unlabelled crops, in so many parts."""

    def make(method, count, step=90):
        margins = method.margins()
        pools = [Pool(tiles, 64, labelled=labelled, margin=margins[not labelled]) for labelled in (True, False)]
        key = torch.tensor([stream_seed(0, step, "batch")])
        each = [
            [
                pool.crops(0, step, name, 8 // count, part=part, parts=count)
                for pool, name in zip(pools, "ab", strict=True)
            ]
            for part in range(count)
        ]
        weight = torch.tensor(method.weight(step))
        return [Batch(step, 0, key, weight, *crops, part, count) for part, crops in enumerate(each)]

    return make


def network():
    """A network with context and without BatchNorm, whose statistics are a batch's own."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 6, 1))


def learned(method, parts, *, exact=True):
    """Losses by name and gradients, of network and partner."""
    shown = network()
    partner = method.partner(shown)
    passes = Passes(shown, method, ALONE)
    if not exact:
        passes._joints = lambda parts, *_: [alone for _ in parts]
    told = passes.backward(parts, partner, torch.amp.GradScaler("cpu", enabled=False), nullcontext(), lambda part: None)
    of_partner = [] if partner is None else [p.grad for p in partner.parameters() if p.grad is not None]
    return told, [p.grad for p in shown.parameters()], of_partner


@pytest.mark.parametrize("settings", [{}, {"train.dice": 0.5}], ids=["", "dice"])
@pytest.mark.parametrize("name", NAMES)
def test_passes_add_up_to_the_joint_batch(name, settings, make, parts_of):
    method = make(name, **{"method.jitter": 0.0, "method.blur": 0.0, **settings})
    whole = learned(method, parts_of(method, 1))
    assert any(gradient.abs().sum() > 0 for gradient in whole[1])
    for count in (2, 4):
        torch.testing.assert_close(learned(method, parts_of(method, count)), whole, rtol=2e-4, atol=1e-6)


def test_class_weights_add_up_too(make, parts_of):
    method = make("supervised", class_weights=(1.0, 0.0, 3.0, 0.5, 2.0, 1.0))
    torch.testing.assert_close(
        learned(method, parts_of(method, 4)), learned(method, parts_of(method, 1)), rtol=2e-4, atol=1e-6
    )


def test_plain_means_of_means_would_be_told(make, parts_of):
    method = make("s4net")
    _, gradients, _ = learned(method, parts_of(method, 1))
    _, biased, _ = learned(method, parts_of(method, 4), exact=False)
    assert not torch.allclose(biased[0], gradients[0], rtol=0.02)


@pytest.mark.parametrize("name", CHOICES["method.name"])
def test_what_is_counted_ahead_is_what_predictions_would_count(name, make, parts_of):
    method = make(name)
    if not method.counts_ahead():
        pytest.skip(f"{name} counts predictions")
    quick = learned(method, parts_of(method, 2))
    object.__setattr__(method, "counts_ahead", lambda: False)
    assert all(torch.equal(*pair) for pair in zip(quick[1], learned(method, parts_of(method, 2))[1], strict=True))


def test_a_first_look_leaves_running_statistics_as_they_were(make, parts_of):
    method = make("hung")
    torch.manual_seed(0)
    shown = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.BatchNorm2d(6))
    twin = copy.deepcopy(shown)
    parts = parts_of(method, 2)
    passes = Passes(shown, method, ALONE)
    passes.backward(
        parts, method.partner(shown), torch.amp.GradScaler("cpu", enabled=False), nullcontext(), lambda _: None
    )
    for part in parts:
        method.losses(twin, part, method.partner(twin))
    for mine, theirs in zip(shown.buffers(), twin.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_samples_are_the_same_in_however_many_parts(make, parts_of):
    method = make("s4net")
    (whole,) = parts_of(method, 1)
    parts = parts_of(method, 4)
    assert torch.equal(torch.cat([part.labeled.images for part in parts]), whole.labeled.images)
    assert torch.equal(torch.cat([part.seeds("x", 2) for part in parts]), whole.seeds("x", 8))
    assert all(torch.equal(part.common_seeds("x", 2), whole.common_seeds("x", 2)) for part in parts)


def test_a_known_mean_has_the_gradient_of_the_own_value():
    value = torch.tensor([3.0, 5.0], requires_grad=True)
    for joint in (known([torch.tensor([7.0, 1.0])]), by(lambda _: torch.tensor([7.0, 1.0]))):
        mean = joint(value)
        assert mean.tolist() == [7.0, 1.0]
        (gradient,) = torch.autograd.grad((mean * torch.tensor([2.0, 4.0])).sum(), value)
        assert gradient.tolist() == [2.0, 4.0]
    assert not known([torch.tensor(1.0)])(value.detach()).requires_grad


def test_what_is_noted_comes_back_unchanged():
    noted, value = Noted(), torch.tensor(3)
    assert noted(value) is value
    assert [float(each) for each in noted.values] == [3.0]


def test_nothing_by_nothing_is_nothing():
    total = torch.zeros((), requires_grad=True)
    quotient = divided(total, torch.tensor(0))
    quotient.backward()
    assert (quotient.item(), total.grad.item()) == (0.0, 1.0)
    assert float(divided(torch.tensor(1.0), torch.tensor(0.25))) == 4.0
