"""Philox 4x32-10, a counter-based random generator: the same numbers on every device.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four random 32-bit words for each counter and key.

    Args:
        counter: Four int64 tensors of one shape, each holding 32-bit words.
        key: Two such tensors.

    Returns:
        Four int64 tensors of that shape with values in [0, 2^32).
    """
    a, b, c, d = counter
    low, high = key
    for _ in range(ROUNDS):
        high_a, low_a = _multiply(a, MULTIPLIERS[0])
        high_c, low_c = _multiply(c, MULTIPLIERS[1])
        a, b, c, d = high_c ^ b ^ low, low_c, high_a ^ d ^ high, low_a
        low, high = (low + WEYL[0]) & WORD, (high + WEYL[1]) & WORD
    return a, b, c, d


def uniform(seed: Tensor, count: int) -> Tensor:
    """Uniform numbers in (0, 1) that depend on nothing but the seed of their sample.

    Args:
        seed: [B] int64.
        count: Numbers per sample.

    Returns:
        [B, count] float64, multiples of 2^-32 plus 2^-33.
    """
    blocks = torch.arange((count + 3) // 4, device=seed.device).expand(seed.shape[0], -1)  # [B, n]
    zero = torch.zeros_like(blocks)
    key = (seed & WORD)[:, None] + zero, ((seed >> 32) & WORD)[:, None] + zero
    words = torch.stack(philox((blocks, zero, zero, zero), key), -1)  # [B, n, 4]
    return (words.flatten(1)[:, :count].to(torch.float64) + 0.5) / 2**32


def derived(seed: Tensor) -> Tensor:
    """One more seed for each seed, of numbers that `uniform` does not use.

    Args:
        seed: [B] int64.

    Returns:
        [B] int64 in [0, 2^32).
    """
    zero = torch.zeros_like(seed)
    return philox((zero, zero, zero, zero + 1), (seed & WORD, (seed >> 32) & WORD))[0]


def _multiply(value: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    # The 64-bit product by 16-bit halves, for int64 must not overflow.
    lower = (value & 0xFFFF) * factor
    upper = (value >> 16) * factor + (lower >> 16)
    return upper >> 16, ((upper & 0xFFFF) << 16) | (lower & 0xFFFF)
