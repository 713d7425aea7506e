"""Cost against growth as a picture (SVG): time and memory over batch, pixels and channels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from .cases import SCALES, Case, base_case
from .records import Measured, Record, Run

PANEL, GAP, LEFT, TOP = (210, 150), (62, 62), 58, 46  # px
COLOURS = {"s4aug": "#5e35b1", "Kornia + mask": "#ef6c00", "Kornia + masks": "#ef6c00", "copy": "#90a4ae"}
SERIES = tuple(COLOURS)
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """What grows, and which records of a run differ from the base case in it alone."""

    title: str
    value: Callable[[Case], float]
    keeps: Callable[[Case, Case], bool]  # a case, and the base


AXES = (
    Axis(
        "images B",
        lambda case: case.batch,
        lambda case, base: (case.channels, case.size) == (base.channels, base.size),
    ),
    Axis(
        "megapixels of an image",
        lambda case: case.pixels / 1e6,
        lambda case, base: case.channels == base.channels and case.batch == base.batch,
    ),
    Axis(
        "channels C",
        lambda case: case.channels,
        lambda case, base: (case.batch, case.size) == (base.batch, base.size),
    ),
)


def grown(run: Run, kind: str, axis: Axis) -> list[Record]:
    """Records along an axis, smallest first."""
    scale = SCALES[run.scale]
    base = base_case(kind, scale, run.device)
    if axis is AXES[1]:
        base = Case(kind, scale.batches[0], base.channels, base.size, base.dtype, base.device)
    found = [
        record for record in run.of_kind(kind) if record.case.dtype == base.dtype and axis.keeps(record.case, base)
    ]
    return sorted(found, key=lambda record: axis.value(record.case))


def time_ms(measured: Measured) -> float | None:
    return 1e3 * measured.time.median


def peak_mib(measured: Measured) -> float | None:
    return None if measured.peak_bytes is None else measured.peak_bytes / 2**20


COSTS: tuple[tuple[str, Callable[[Measured], float | None]], ...] = (("time, ms", time_ms), ("peak, MiB", peak_mib))


def growth_picture(run: Run, kind: str, title: str) -> str:
    """Six panels with axes from 0, where what is linear is a straight line."""
    width = LEFT + 3 * PANEL[0] + 2 * GAP[0] + 20
    height = TOP + 2 * PANEL[1] + 2 * GAP[1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(LEFT, 18, title, size=13),
    ]
    shown: dict[str, None] = {}
    for column, axis in enumerate(AXES):
        records = grown(run, kind, axis)
        for row, (cost, measure) in enumerate(COSTS):
            lines = series(records, axis, measure)
            shown |= dict.fromkeys(lines)
            corner = (LEFT + column * (PANEL[0] + GAP[0]), TOP + row * (PANEL[1] + GAP[1]))
            parts += panel(corner, lines, axis.title, cost)
    parts += legend(shown, height - 10)
    return "\n".join([*parts, "</svg>", ""])


def series(
    records: Sequence[Record], axis: Axis, measure: Callable[[Measured], float | None]
) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for name in SERIES:
        costs = [(axis.value(r.case), measure(r.contenders[name])) for r in records if name in r.contenders]
        points = [(x, y) for x, y in costs if y is not None]
        if points:
            lines[name] = points
    return lines


def panel(corner: tuple[int, int], lines: dict[str, list[Point]], below: str, beside: str) -> list[str]:
    """Axes, ticks at the measured places, and the lines."""
    left, top = corner
    right, bottom = left + PANEL[0], top + PANEL[1]
    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#444"/>']
    parts.append(text((left + right) / 2, bottom + 30, below, anchor="middle"))
    parts.append(text(left, top - 7, beside))
    points = [point for line in lines.values() for point in line]
    if not points:
        return [*parts, text((left + right) / 2, (top + bottom) / 2, "not measured", anchor="middle")]
    most_x, most_y = max(x for x, _ in points) * 1.05, max(y for _, y in points) * 1.08 or 1.0

    def place(point: Point) -> Point:
        return left + PANEL[0] * point[0] / most_x, bottom - PANEL[1] * point[1] / most_y

    for x in apart(sorted({x for x, _ in points}), most_x / 8):
        parts.append(text(place((x, 0))[0], bottom + 14, f"{x:.3g}", anchor="middle"))
    for y in ticks(most_y):
        parts.append(text(left - 5, place((0, y))[1] + 4, f"{y:g}", anchor="end"))
    for name, line in lines.items():
        parts += curve([place(point) for point in line], COLOURS[name])
    return parts


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at most `most`."""
    unit = 10.0 ** math.floor(math.log10(most))
    step = next(factor * unit for factor in (0.2, 0.5, 1, 2) if most / (factor * unit) <= 5)
    return [step * i for i in range(math.floor(most / step) + 1)]


def apart(values: list[float], gap: float) -> list[float]:
    """Values for which there is room, the largest first of all."""
    kept: list[float] = []
    for value in reversed(values):
        if not kept or kept[-1] - value >= gap:
            kept.append(value)
    return kept


def curve(places: list[Point], colour: str) -> list[str]:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return [f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def legend(names: dict[str, None], height: float) -> list[str]:
    parts = []
    for i, name in enumerate(names):
        left = LEFT + 150 * i
        parts.append(f'<circle cx="{left + 4}" cy="{height - 4}" r="4" fill="{COLOURS[name]}"/>')
        parts.append(text(left + 14, height, name))
    return parts


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 11) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222"'
    return f"<text {where}>{escape(words)}</text>"
