"""An optimizer goes on with what it remembered, and never with what would have a kernel write beyond a parameter."""

import copy

import pytest
import torch

from s4aug_train.methods import put_back_moments

NAMES = {torch.optim.SGD: ("momentum_buffer",), torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq")}


def stepped(kind):
    """An optimizer of two parameters after a step, and the parameters."""
    torch.manual_seed(0)
    parameters = [torch.randn(3, 4, requires_grad=True), torch.randn(5, requires_grad=True)]
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(parameters, lr=0.1, fused=True, **options)
    sum((parameter**2).sum() for parameter in parameters).backward()
    optimizer.step()
    return optimizer, parameters


@pytest.mark.parametrize("kind", NAMES)
def test_it_goes_on_as_if_it_had_not_been_put_away(kind):
    optimizer, parameters = stepped(kind)
    again, others = stepped(kind)
    state = copy.deepcopy(optimizer.state_dict())
    put_back_moments(again, state, NAMES[kind])
    kept = copy.deepcopy(state)
    for each in (optimizer, again):
        each.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))
    # It goes on in tensors of its own.
    for number, moments in kept["state"].items():
        assert all(torch.equal(value, state["state"][number][name]) for name, value in moments.items())


@pytest.mark.parametrize("kind", NAMES)
def test_one_that_remembers_nothing_yet_may_do_so(kind):
    optimizer, _ = stepped(kind)
    put_back_moments(optimizer, {"state": {}}, NAMES[kind])
    assert not any(optimizer.state.values())


def test_settings_of_the_file_are_not_taken():
    optimizer, _ = stepped(torch.optim.SGD)
    state = optimizer.state_dict()
    state["param_groups"][0]["momentum"] = "x"
    put_back_moments(optimizer, state, NAMES[torch.optim.SGD])
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(
    "moments",
    [
        {"momentum_buffer": torch.zeros(2)},
        {"momentum_buffer": torch.zeros(1)},
        {"momentum_buffer": torch.zeros(())},
        {"momentum_buffer": 0.0},
        {"exp_avg": torch.zeros(3, 4)},
        {"momentum_buffer": torch.zeros(3, 4), "more": torch.zeros(3, 4)},
    ],
)
def test_moments_of_another_shape_or_name_are_refused(moments):
    optimizer, _ = stepped(torch.optim.SGD)
    state = optimizer.state_dict()
    state["state"][0] = moments
    with pytest.raises(ValueError, match="an optimizer"):
        put_back_moments(optimizer, state, NAMES[torch.optim.SGD])
    with pytest.raises(ValueError, match="an optimizer"):
        put_back_moments(optimizer, {**state, "state": {99: moments}}, NAMES[torch.optim.SGD])
