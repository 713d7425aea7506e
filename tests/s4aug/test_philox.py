import pytest
import torch
from scipy import stats

from s4aug.philox import philox, uniform

# Known answers of Random123 (kat_vectors), philox4x32 with 10 rounds: counter, key, result.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def plain_philox(counter, key, rounds=10):
    """The algorithm of the paper in Python's unbounded integers."""
    c, k = list(counter), list(key)
    for _ in range(rounds):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q % 2**32, (p >> 32) ^ c[3] ^ k[1], p % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def run(counter, key):
    words = philox(tuple(torch.tensor(word) for word in counter), tuple(torch.tensor(word) for word in key))
    return [int(word) for word in words]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers_of_random123(counter, key, answer):
    assert run(counter, key) == answer


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_plain_oracle_gives_the_known_answers_and_fails_with_a_round_less(counter, key, answer):
    assert plain_philox(counter, key) == answer
    assert plain_philox(counter, key, rounds=9) != answer


def test_agrees_with_plain_integers_on_random_words(rng):
    words = torch.randint(0, 2**32, (6, 200), generator=rng)
    result = torch.stack(philox(tuple(words[:4]), tuple(words[4:])), -1)
    expected = [plain_philox(column[:4], column[4:]) for column in words.T.tolist()]
    assert result.tolist() == expected


def test_uniform_is_the_documented_function_of_the_seed():
    seeds = [0, 1, -1, 2**40 + 3, -(2**63), 2**63 - 1]
    result = uniform(torch.tensor(seeds), 9)
    for seed, row in zip(seeds, result.tolist(), strict=True):
        key = [seed % 2**32, (seed % 2**64) >> 32]
        words = [word for block in range(3) for word in plain_philox([block, 0, 0, 0], key)]
        assert row == [(word + 0.5) / 2**32 for word in words[:9]]


def test_uniform_lies_strictly_between_0_and_1_and_is_uniform():
    numbers = uniform(torch.arange(-5000, 5000), 9)
    assert numbers.dtype == torch.float64
    assert numbers.shape == (10000, 9)
    assert numbers.min() > 0
    assert numbers.max() < 1
    for column in numbers.T.numpy():
        assert abs(column.mean() - 1 / 2) < 5 / (12 * 10000) ** 0.5
        assert abs(column.var() - 1 / 12) < 0.004
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_columns_and_neighbouring_seeds_are_uncorrelated():
    numbers = uniform(torch.arange(4000), 9)
    correlation = torch.corrcoef(torch.cat([numbers[:-1], numbers[1:]], 1).T)
    assert (correlation - torch.eye(18)).abs().max() < 0.08


def test_no_samples_give_no_numbers():
    assert uniform(torch.empty(0, dtype=torch.int64), 9).shape == (0, 9)
