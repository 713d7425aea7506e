"""Oracles for the tests of the library: plain Python loops that share no code with it."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch


def _snapped(coordinate: float) -> float:
    """Float noise taken off coordinates that are meant to be whole or half."""
    half = round(2 * coordinate) / 2
    return half if abs(coordinate - half) < 1e-8 else coordinate


def _cubic(distance: float, a: float = -0.75) -> float:
    # Keys' kernel in its textbook form.
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def _taps(coordinate: float, mode: str) -> list[tuple[int, float]]:
    """(source index, weight) along one axis, weights of zero left out."""
    low = math.floor(coordinate)
    if mode == "nearest":
        return [(math.floor(coordinate + 0.5), 1.0)]
    if coordinate == low:
        return [(low, 1.0)]
    if mode == "bilinear":
        return [(low, 1 - (coordinate - low)), (low + 1, coordinate - low)]
    return [(low + i, _cubic(coordinate - low - i)) for i in (-1, 0, 1, 2)]


def _folded(index: int, length: int, padding: str) -> int:
    if padding != "reflection":
        return min(max(index, 0), length - 1)
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def _brute_force_warp(image, matrix, out_size, *, valid=None, mode="bilinear", fill=0.0, padding="fill"):
    """One pixel at a time: float64 value [B, C, h, w] and validity [B, 1, h, w], as numpy arrays."""
    source = image.detach().to(torch.float64).numpy()
    mask = np.ones((len(source), *source.shape[2:]), bool) if valid is None else valid[:, 0].numpy()
    height, width = source.shape[2:]
    out = np.full((*source.shape[:2], *out_size), fill, np.float64)
    real = np.zeros((len(source), 1, *out_size), bool)
    for b in range(len(source)):
        inverse = np.linalg.inv(matrix[b].detach().numpy().astype(np.float64))
        for i in range(out_size[0]):
            for j in range(out_size[1]):
                x, y = (_snapped(float(c)) for c in (inverse @ [j, i, 1.0])[:2])
                taps = [(r, c, wy * wx) for r, wy in _taps(y, mode) for c, wx in _taps(x, mode)]
                inside = all(0 <= r < height and 0 <= c < width for r, c, _ in taps)
                if not inside and padding == "fill":
                    continue
                taps = [(_folded(r, height, padding), _folded(c, width, padding), w) for r, c, w in taps]
                if not all(mask[b, r, c] for r, c, _ in taps):
                    continue
                real[b, 0, i, j] = inside
                out[b, :, i, j] = sum(w * source[b, :, r, c] for r, c, w in taps)
    return out, real


@pytest.fixture(scope="session")
def brute_force_warp() -> Callable:
    return _brute_force_warp


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
