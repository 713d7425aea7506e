"""From the pixels of a mask to labels, and to counts of what no table knows."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from .raster import Palette

IGNORE = 255  # the label of pixels without a class
MAX_COLORS = 64  # colours or values that a count tells apart; the rest is counted as OTHER
OTHER = "other"
MIDDLE = (64, 192)  # of a channel: too far from 0 and 255 for what a lossy picture makes of these

Color = tuple[int, int, int]

_OFF = 256  # in lookup tables: not in the class table, while `IGNORE` means known and ignored


def decode_corners(
    labels: Mapping[Color, int],
    raw: np.ndarray,  # [C, H, W] uint8
    *,
    all_near: bool,
) -> tuple[np.ndarray, dict[str, int]]:
    """Labels [H, W] uint8 by corners of the RGB cube, each channel cut at 128, and counts of unknown colours.

    Args:
        labels: By corner.
        raw: The colours.
        all_near: As DeepGlobe has it; else a colour with a channel of `MIDDLE` is at no corner, and unknown.
    """
    cut = raw[:3] >> 7
    codes = cut[0] << 2 | cut[1] << 1 | cut[2]  # [H, W], 0..7
    far = False if all_near else ((raw[:3] >= MIDDLE[0]) & (raw[:3] < MIDDLE[1])).any(0)
    known = {_code(color, 1, 255): label for color, label in labels.items()}
    lut = np.array([known.get(code, IGNORE) for code in range(8)], dtype=np.uint8)
    counts = {code: int(np.count_nonzero((codes == code) & ~np.asarray(far))) for code in range(8) if code not in known}
    corner = {code: ",".join(str(255 * (code >> bit & 1)) for bit in (2, 1, 0)) for code in counts}
    unknown = {corner[code]: count for code, count in counts.items() if count}
    if not np.any(far):
        return lut[codes], unknown
    return np.where(far, np.uint8(IGNORE), lut[codes]), unknown | _count_codes(_codes(raw)[far])


def decode_colors(
    labels: Mapping[Color, int],
    raw: np.ndarray,  # [C, H, W] uint8
) -> tuple[np.ndarray, dict[str, int]]:
    """Labels [H, W] uint8 by exact colours, and counts of unknown ones."""
    codes = _codes(raw)  # [H, W], 24 bits
    decoded = _color_lut(tuple(labels.items()))[codes]
    unknown = codes[decoded == _OFF]
    return np.minimum(decoded, IGNORE).astype(np.uint8), _count_codes(unknown)


def decode_values(
    labels: Mapping[int, int],
    raw: np.ndarray,  # [H, W]
) -> tuple[np.ndarray, dict[str, int]]:
    """Labels [H, W] uint8 by value, and counts of unknown ones; NaN is not counted."""
    if raw.dtype.kind == "f":
        known = np.array(sorted(labels.items()), dtype=np.float64)  # [N, 2]
        nearest = np.searchsorted(known[:, 0], raw).clip(max=len(known) - 1)
        decoded = np.where(known[nearest, 0] == raw, known[nearest, 1], _OFF)
        unknown = raw[(decoded == _OFF) & ~np.isnan(raw)]
    else:
        lut = np.full(1 << 16, _OFF, dtype=np.uint16)
        for value, label in labels.items():
            if 0 <= value < lut.size:
                lut[value] = label
        decoded = lut[raw]
        unknown = raw[decoded == _OFF]
    return np.minimum(decoded, IGNORE).astype(np.uint8), _count_values(unknown)


def observed(raw: np.ndarray, palette: Palette | None = None) -> dict[str, int]:
    """Count the colours ("255,0,0") or values ("37") of a mask without a class table.

    Args:
        raw: [C, H, W] as `read_image` gives it.
        palette: `RasterInfo.palette`; with it colours are counted.

    Returns:
        Pixels of each, at most the `MAX_COLORS` most frequent; the rest is counted as `OTHER`.
    """
    if raw.shape[0] == 1 and palette is None:
        return _count_values(raw[0].ravel())
    if raw.shape[0] == 1:
        raw = expand(raw[0], palette or ())
    if raw.shape[0] < 3 or raw.dtype != np.uint8:
        return {OTHER: raw[0].size}
    return _count_codes(_codes(raw).ravel())


def expand(indices: np.ndarray, palette: Palette) -> np.ndarray:  # [H, W] -> [3, H, W]
    """The colours of a palette image."""
    colors = np.asarray(palette, dtype=np.uint8).T.copy()  # [3, 256]
    return np.stack([channel[indices] for channel in colors])


@lru_cache(maxsize=2)
def _color_lut(labels: tuple[tuple[Color, int], ...]) -> np.ndarray:  # [2^24] uint16, 32 MB
    lut = np.full(1 << 24, _OFF, dtype=np.uint16)
    for color, label in labels:
        lut[_code(color, 8, 1)] = label
    return lut


def _code(color: Color, bits: int, unit: int) -> int:
    r, g, b = (channel // unit for channel in color)
    return r << 2 * bits | g << bits | b


def _codes(raw: np.ndarray) -> np.ndarray:  # [C, H, W] uint8 -> [H, W] int32
    codes = raw[0].astype(np.int32)
    for channel in raw[1:3]:
        codes <<= 8
        codes |= channel
    return codes


def _count_codes(codes: np.ndarray) -> dict[str, int]:  # [N] int32
    counts = _most_common(codes)
    return {name if name == OTHER else _rgb(int(name)): count for name, count in counts.items()}


def _count_values(values: np.ndarray) -> dict[str, int]:  # [N]
    if values.dtype == np.uint8:
        counts = np.bincount(values, minlength=256)
        return _bounded(np.arange(256), counts)
    return _most_common(values[~np.isnan(values)] if values.dtype.kind == "f" else values)


def _most_common(items: np.ndarray) -> dict[str, int]:  # [N]
    values, counts = np.unique(items, return_counts=True)
    return _bounded(values, counts)


def _bounded(values: np.ndarray, counts: np.ndarray) -> dict[str, int]:
    order = np.argsort(-counts, kind="stable")
    kept = [index for index in order[:MAX_COLORS] if counts[index]]
    result = {_text(values[index].item()): int(counts[index]) for index in kept}
    rest = int(counts[order[MAX_COLORS:]].sum())
    return result | ({OTHER: rest} if rest else {})


def _text(value: float) -> str:
    return str(int(value)) if np.isfinite(value) and value == int(value) else f"{value:g}"


def _rgb(code: int) -> str:
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"
