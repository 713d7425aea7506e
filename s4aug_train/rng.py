"""Randomness from (seed, step, stream): the same draw whether or not a run was interrupted."""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def stream_seed(seed: int, step: int, stream: str) -> int:
    """A 63-bit seed that depends on nothing but its three arguments.

    Args:
        seed: The run's seed.
        step: The training step, or any other counter.
        stream: What the numbers are for, for example "crop"; streams are independent.
    """
    digest = hashlib.blake2b(f"{seed}:{step}:{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream_rng(seed: int, step: int, stream: str) -> np.random.Generator:
    """A NumPy generator for (seed, step, stream)."""
    return np.random.default_rng(stream_seed(seed, step, stream))


@lru_cache(maxsize=64)
def sample_offsets(stream: str, batch: int, device: torch.device) -> Tensor:  # [B] int64
    """What a stream adds to the key of a step, one number per sample; made once, so that a CUDA graph can read it."""
    return torch.from_numpy(stream_rng(0, 0, stream).integers(0, 2**63 - 1, batch, dtype=np.int64)).to(device)
