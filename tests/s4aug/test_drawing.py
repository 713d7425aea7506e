import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from s4aug import ArgumentError
from s4aug.drawing import DrawnFrom

# Each way torch has of drawing: the call below the mode, and the call that names its generator.
DRAWS = {
    "rand": (lambda: torch.rand(4, 3), lambda g: torch.rand(4, 3, generator=g)),
    "randn": (lambda: torch.randn(4, 3), lambda g: torch.randn(4, 3, generator=g)),
    "randint": (lambda: torch.randint(3, 90, (12,)), lambda g: torch.randint(3, 90, (12,), generator=g)),
    "randperm": (lambda: torch.randperm(12), lambda g: torch.randperm(12, generator=g)),
    "rand_like": (lambda: torch.rand_like(torch.ones(12)), lambda g: torch.rand(12, generator=g)),
    "randn_like": (
        lambda: torch.randn_like(torch.ones(20), dtype=torch.float64),
        lambda g: torch.randn(20, generator=g, dtype=torch.float64),
    ),
    "uniform_": (lambda: torch.empty(12).uniform_(2, 3), lambda g: torch.empty(12).uniform_(2, 3, generator=g)),
    "normal_": (lambda: torch.empty(12).normal_(2, 3), lambda g: torch.empty(12).normal_(2, 3, generator=g)),
    "normal": (lambda: torch.normal(1.0, 2.0, (12,)), lambda g: torch.normal(1.0, 2.0, (12,), generator=g)),
    "normal of tensors": (
        lambda: torch.normal(torch.zeros(12), torch.ones(12)),
        lambda g: torch.normal(torch.zeros(12), torch.ones(12), generator=g),
    ),
    "bernoulli": (
        lambda: torch.bernoulli(torch.full((20,), 0.5)),
        lambda g: torch.bernoulli(torch.full((20,), 0.5), generator=g),
    ),
    "bernoulli_ of a number": (
        lambda: torch.empty(20).bernoulli_(0.5),
        lambda g: torch.empty(20).bernoulli_(0.5, generator=g),
    ),
    "bernoulli_ of a tensor": (
        lambda: torch.empty(20).bernoulli_(torch.full((20,), 0.5)),
        lambda g: torch.empty(20).bernoulli_(torch.full((20,), 0.5), generator=g),
    ),
    "multinomial": (
        lambda: torch.multinomial(torch.ones(20), 9),
        lambda g: torch.multinomial(torch.ones(20), 9, generator=g),
    ),
    "exponential_": (
        lambda: torch.empty(12).exponential_(2.0),
        lambda g: torch.empty(12).exponential_(2.0, generator=g),
    ),
    "poisson": (
        lambda: torch.poisson(torch.full((20,), 9.0)),
        lambda g: torch.poisson(torch.full((20,), 9.0), generator=g),
    ),
}


def seeded(number=5):
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize(("plain", "named"), DRAWS.values(), ids=DRAWS)
def test_a_draw_takes_the_numbers_of_our_generator_and_moves_it_alone(plain, named):
    theirs, ours = seeded(), seeded()
    before = torch.get_rng_state()
    with DrawnFrom(ours):
        drawn = plain()
        further = plain()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, named(theirs))
    assert torch.equal(further, named(theirs))
    assert torch.equal(ours.get_state(), theirs.get_state())
    assert not torch.equal(drawn, further)


def test_the_comparison_of_global_states_sees_a_draw():
    before = torch.get_rng_state()
    torch.rand(3)
    assert not torch.equal(torch.get_rng_state(), before)


def test_the_global_state_is_not_read():
    drawn = []
    for number in (1, 2):
        torch.manual_seed(number)
        with DrawnFrom(seeded()):
            drawn.append([plain() for plain, _ in (DRAWS["rand"], DRAWS["randperm"], DRAWS["rand_like"])])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


@pytest.mark.parametrize(
    "law",
    [
        torch.distributions.Uniform(torch.tensor(1.0), torch.tensor(2.0)),
        torch.distributions.Normal(torch.tensor(1.0), torch.tensor(2.0)),
        torch.distributions.Bernoulli(torch.tensor(0.5)),
        torch.distributions.Beta(torch.tensor([2.0]), torch.tensor([3.0])),
    ],
    ids=["uniform", "normal", "bernoulli", "beta"],
)
def test_distributions_that_kornia_draws_by_are_drawn_from_our_generator(law):
    before = torch.get_rng_state()
    with DrawnFrom(seeded()):
        first = law.sample((20,))
    with DrawnFrom(seeded()):
        again = law.sample((20,))
    with DrawnFrom(seeded(6)):
        other = law.sample((20,))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_generator_that_a_call_names_itself_is_kept():
    named, ours = seeded(1), seeded(2)
    with DrawnFrom(ours):
        drawn = torch.rand(5, generator=named)
    assert torch.equal(drawn, torch.rand(5, generator=seeded(1)))
    assert torch.equal(ours.get_state(), seeded(2).get_state())


def test_draws_are_global_again_after_the_mode_and_after_an_error_in_it():
    torch.manual_seed(3)
    with pytest.raises(ZeroDivisionError), DrawnFrom(seeded()):
        raise ZeroDivisionError
    drawn = torch.rand(5)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(5))


def test_the_innermost_generator_is_drawn_from():
    outer, inner = seeded(1), seeded(2)
    with DrawnFrom(outer):
        with DrawnFrom(inner):
            drawn = torch.rand(5)
        after = torch.rand(5)
    assert torch.equal(drawn, torch.rand(5, generator=seeded(2)))
    assert torch.equal(after, torch.rand(5, generator=seeded(1)))


def test_gradient_goes_past_a_draw():
    image = torch.ones(6, requires_grad=True)
    with DrawnFrom(seeded()):
        noise = torch.rand_like(image)
        (image * noise).sum().backward()
    assert not noise.requires_grad
    assert torch.equal(image.grad, noise)


@pytest.mark.parametrize(
    "dropped",
    [
        lambda: torch.nn.functional.dropout(torch.ones(50), 0.5),
        lambda: torch.nn.functional.dropout(torch.ones(50, requires_grad=True), 0.5),
        lambda: torch.nn.functional.dropout2d(torch.ones(1, 50, 2, 2), 0.5),
        lambda: torch.nn.functional.alpha_dropout(torch.ones(50), 0.5, True),
    ],
    ids=["plain", "with gradient", "by channel", "alpha"],
)
def test_dropout_is_drawn_from_our_generator_or_refused_by_name(dropped):
    before = torch.get_rng_state()
    results = []
    for _ in range(2):
        try:
            with DrawnFrom(seeded()):
                results.append(dropped().detach())
        except ArgumentError as refusal:
            assert "takes no generator" in str(refusal)  # noqa: PT017 - either outcome is right, but no third
    assert torch.equal(torch.get_rng_state(), before)
    assert len(results) in (0, 2)
    assert not results or torch.equal(*results)


@pytest.mark.parametrize("gradient", [False, True])
def test_an_operator_without_generator_is_refused_by_name_and_nothing_moves(gradient):
    ours = seeded()
    before = torch.get_rng_state()
    with DrawnFrom(ours), pytest.raises(ArgumentError, match=r"native_dropout.* takes no generator; leave this"):
        torch.native_dropout(torch.ones(9, requires_grad=gradient), 0.5, True)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(ours.get_state(), seeded().get_state())


def test_threads_without_the_mode_draw_from_the_global_state():
    ours, entered, drawn_there = seeded(), threading.Event(), threading.Event()
    torch.manual_seed(11)

    def elsewhere():
        entered.wait(30)
        numbers = torch.rand(5)
        drawn_there.set()
        return numbers

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(elsewhere)
        with DrawnFrom(ours):
            entered.set()
            assert drawn_there.wait(30)
            here = torch.rand(5)
        there = other.result(30)
    torch.manual_seed(11)
    assert torch.equal(there, torch.rand(5))
    assert torch.equal(here, torch.rand(5, generator=seeded()))


def test_threads_with_a_generator_each_draw_what_they_draw_alone():
    start = threading.Barrier(8)

    def numbers(number, wait=start.wait):
        wait(30)
        with DrawnFrom(seeded(number)):
            return torch.stack([torch.rand(40) + torch.rand_like(torch.ones(40)) for _ in range(50)])

    before = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(numbers, range(8)))
    alone = [numbers(number, wait=lambda _: None) for number in range(8)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(alone[0], alone[1])
