"""All methods by one protocol; see the files beside this one for what is special to each."""

import copy

import numpy as np
import pytest
import torch

from s4aug_train.data.normalization import Normalization
from s4aug_train.errors import ConfigError
from s4aug_train.limits import CHOICES
from s4aug_train.methods import Method, Setup, make_method
from s4aug_train.presets import METHODS, configured

NAMES = CHOICES["method.name"]


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_finite_differentiable_and_repeatable(name, make, make_batch, pixelwise, run):
    method = make(name)
    batch, network = make_batch(method, step=90), pixelwise()
    losses = run(method, network, batch)
    losses.total.backward()
    assert torch.isfinite(network.conv.weight.grad).all()
    assert network.conv.weight.grad.abs().sum() > 0
    torch.manual_seed(1)  # nothing is drawn from the global generator
    again = pixelwise()
    torch.rand(3)
    assert torch.equal(losses.total, run(method, again, batch).total)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hung"])
def test_the_total_is_what_its_parts_say(name, make, make_batch, pixelwise, run):
    method = make(name)
    losses = run(method, pixelwise(), make_batch(method, step=90))
    expected = losses.supervised + method.weight(90) * losses.unsupervised
    torch.testing.assert_close(losses.total.detach(), expected)
    assert (method.weight(90) > 0) == method.uses_unlabeled


@pytest.mark.parametrize("name", NAMES)
def test_an_all_ignored_batch_gives_a_finite_loss_and_gradient(name, make, make_batch, pixelwise, run, make_tile):
    method = make(name)
    valid = np.zeros((80, 96), bool)
    tiles = [make_tile((80, 96), name="nodata", valid=valid)]
    batch = make_batch(method, step=90, tiles=tiles)
    network = pixelwise()
    losses = run(method, network, batch)
    losses.total.backward()
    assert losses.supervised.item() == 0
    assert losses.unsupervised.item() == 0
    assert torch.isfinite(network.conv.weight.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_under_nodata_changes_nothing(name, make, make_batch, pixelwise, run, make_tile):
    method = make(name, **{"method.jitter": 0.0, "method.blur": 0.0})
    valid = np.ones((80, 96), bool)
    valid[:, :50] = False

    def losses(filler):
        tile = make_tile((80, 96), valid=valid, dtype=np.float32)
        tile.image[:, :, :50] = filler
        network = pixelwise()
        result = run(method, network, make_batch(method, step=90, tiles=[tile]))
        result.total.backward()
        return result.total.detach(), network.conv.weight.grad

    (zero, gradient), (poisoned, same) = losses(0.0), losses(np.nan)
    assert torch.equal(zero, poisoned)
    assert torch.equal(gradient, same)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_lower_resolution_trains(name, make, make_batch, run):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 6, 4, stride=4)
    method = make(name)
    losses = run(method, network, make_batch(method, step=90))
    losses.total.backward()
    assert torch.isfinite(network.weight.grad).all()
    assert network.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_losses_leave_batch_and_network_as_they_were(name, make, make_batch, run):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.Conv2d(6, 6, 1))
    method = make(name)
    partner = method.partner(network)
    before = copy.deepcopy(network.state_dict())
    batch = make_batch(method, step=90)
    images = batch.labeled.images.clone()
    run(method, network, batch, partner)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(batch.labeled.images, images)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_only_full_sees_the_masks_of_unlabelled_tiles(make, make_tile):
    labelled, hidden, bare = make_tile(name="a"), make_tile(name="b"), make_tile(name="c", labelled=False)
    for name in NAMES:
        seen = list(make(name).labelled_tiles([labelled], [hidden, bare]))
        assert seen == ([labelled, hidden] if name == "full" else [labelled])


def test_what_methods_set_gives_way_to_what_is_asked_for():
    assert configured({"method.name": "fixmatch"}).method.ramp == 0
    assert configured({"method.name": "fixmatch", "method.ramp": 0.5}).method.ramp == 0.5
    assert set(METHODS) <= set(NAMES)


class Own(Method):
    def losses(self, network, batch, partner):
        raise NotImplementedError


def own_method(setup):
    return Own(setup)


def no_method(setup):
    return 3


@pytest.fixture
def named_module(monkeypatch):
    """This module under a name that can be imported."""
    import sys

    monkeypatch.setitem(sys.modules, "own_methods", sys.modules[Own.__module__])


def test_a_method_of_the_user_is_found_by_its_name(named_module):
    setup = Setup(configured({"method.name": "own_methods:own_method"}), Normalization((0.0,), (1.0,), "measured"), 2)
    assert isinstance(make_method(setup), Own)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_methods:no_method", r"must give a s4aug_train.methods.Method, got int"),
        ("own_methods:absent", r"own_methods has no function absent"),
        ("no_such_module:make", r"cannot import no_such_module"),
        (":make", r"takes package.module:function"),
    ],
)
def test_a_method_that_cannot_be_had_is_told(name, message, named_module):
    setup = Setup(configured({"method.name": name}), Normalization((0.0,), (1.0,), "measured"), 2)
    with pytest.raises(ConfigError, match=message):
        make_method(setup)
