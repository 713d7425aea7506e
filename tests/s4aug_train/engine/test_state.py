"""Steps of a training state: those that are not taken, and those in several passes."""

import copy

import numpy as np
import pytest
import torch

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.pool import Pool
from s4aug_train.engine import Loader, TrainingState
from s4aug_train.errors import CheckpointError
from s4aug_train.methods import Setup, make_method
from s4aug_train.presets import configured

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 6, 1))


@pytest.fixture
def set_up(make_tile):
    """A function that makes state and loader of a small run on float tiles; those named are of infinite pixels."""

    def make(name, *, bad=(), accumulate=1, model=None, **settings):
        given = {"method.name": name, "train.steps": 20, "train.crop": 64, "train.accumulate": accumulate, **settings}
        config = configured(given)
        method = make_method(Setup(config, Normalization((127.0,) * 3, (60.0,) * 3, "measured"), 6))
        tiles = [make_tile((64, 64), name=str(i), seed=i, dtype=np.float32) for i in range(8)]
        for i in bad:
            tiles[i].image[:] = np.inf
        labelled, bare = (Pool(tiles, 64, labelled=labelled) for labelled in (True, False))
        counts = {"own_parts": accumulate, "parts": accumulate}
        loader = Loader(labelled, bare, 2, 2, 0, method.weight, 0, CPU, **counts)
        return TrainingState(model or network(), method, config.train, CPU), loader

    return make


def everything(state):
    """All tensors of a state by name, but what counts steps."""

    def flat(value, name=""):
        if isinstance(value, torch.Tensor) and not name.endswith(("num_batches_tracked", "done", "steps", "step")):
            yield name, value.clone()
        elif isinstance(value, dict):
            for key, part in value.items():
                yield from flat(part, f"{name}.{key}")

    return dict(flat({"network": state.network.state_dict(), **state.state_dict()}))


@pytest.mark.parametrize(
    ("name", "precision", "accumulate"),
    [
        *((name, "fp32", 1) for name in ("supervised", "s4net", "mean-teacher", "hung", "vat")),
        *((name, "fp16", 1) for name in ("s4net", "mean-teacher")),
        *(("s4net", precision, 2) for precision in ("fp32", "fp16")),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(name, precision, accumulate, set_up):
    settings = {"train.precision": precision, "train.schedule": "constant", "method.semi_start": 0.0}
    # From the very first step on: momentum must not come out of uninitialised memory. Later, theta-bar is not theta.
    for steps in (0, 2):
        state, loader = set_up(name, accumulate=accumulate, **settings)
        for step in range(steps):
            assert not bool(state.train_on(loader.batch(step)).skipped)
        before = everything(state)
        _, broken = set_up(name, bad=range(8), accumulate=accumulate, **settings)
        assert bool(state.train_on(broken.batch(steps)).skipped)
        assert state.step == steps + 1
        after = everything(state)
        assert all(torch.equal(value, after[key]) for key, value in before.items() if "scale" not in key)


def test_a_partner_does_not_learn_from_a_step_that_its_network_skipped(set_up):
    state, loader = set_up("hung", **{"method.semi_start": 0.0})
    state.train_on(loader.batch(0))
    before = everything(state)
    # The network's gradient alone is not finite.
    state.network[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    assert bool(state.train_on(loader.batch(1)).skipped)
    after = everything(state)
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_step_after_a_skipped_one_is_as_if_that_had_not_been(set_up):
    plain, loader = set_up("s4net", **{"train.schedule": "constant"})
    shaken, other = set_up("s4net", bad=range(8), **{"train.schedule": "constant"})
    shaken.train_on(other.batch(0))
    for state in (plain, shaken):
        state.step = 1
        assert not bool(state.train_on(loader.batch(1)).skipped)
    first, second = everything(plain), everything(shaken)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_finite_steps_are_taken(set_up):
    state, loader = set_up("s4net")
    before = everything(state)
    outcome = state.train_on(loader.batch(0))
    assert not bool(outcome.skipped)
    after = everything(state)
    assert not torch.equal(before[".network.0.weight"], after[".network.0.weight"])
    assert not torch.equal(before[".network.1.running_mean"], after[".network.1.running_mean"])


@pytest.mark.parametrize("name", ["s4net", "cutmix"])
def test_a_run_in_passes_goes_on_bit_by_bit(name, set_up):
    whole, loader = set_up(name, accumulate=2)
    for step in range(4):
        whole.train_on(loader.batch(step))
    first, _ = set_up(name, accumulate=2)
    for step in range(2):
        first.train_on(loader.batch(step))
    second, _ = set_up(name, accumulate=2)
    second.load(2, None, *copy.deepcopy((first.network.state_dict(), first.state_dict())))
    for step in range(2, 4):
        second.train_on(loader.batch(step))
    expected, found = everything(whole), everything(second)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_layers_that_draw_draw_anew_in_each_pass(set_up):
    seen = []
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), torch.nn.Dropout(0.5))
    model[1].register_forward_hook(lambda layer, given, made: seen.append((made == 0).sum().item()))
    state, loader = set_up("supervised", accumulate=2, model=model)
    state.train_on(loader.batch(0))
    state.step = 0
    state.train_on(loader.batch(0))
    assert seen[0] != seen[1]
    assert seen[:2] == seen[2:]


def test_a_run_does_not_go_on_with_another_number_of_parts(set_up):
    two, _ = set_up("s4net", accumulate=2)
    one, _ = set_up("s4net")
    with pytest.raises(
        CheckpointError, match=r"parts of a step .* were 2 and are now 1: change --set train.accumulate"
    ):
        one.load(0, None, two.network.state_dict(), two.state_dict())
