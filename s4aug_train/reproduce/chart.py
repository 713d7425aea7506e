"""A table of results as a picture: points with error bars, the paper's beside ours, as SVG text."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from .results import Figure, Result

WIDTH_PX, PLOT_PX = 860, 360
LEFT_PX, TOP_PX, RIGHT_PX = 70, 70, 20
LINE_PX, LINE_CHARS = 17, 125
# By series; told apart also where colours cannot be.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#a03f8f")
INK, GRID = "#222222", "#dddddd"
RADIUS_PX = 5.0


@dataclass(frozen=True)
class Scale:
    """From % to px down.

    Args:
        low: At the bottom.
        high: At the top.
        step: Between two lines.
    """

    low: float
    high: float
    step: float

    def y_px(self, value: float) -> float:
        """Where a value is."""
        return TOP_PX + PLOT_PX * (self.high - value) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Values that have a line."""
        return [self.low + self.step * i for i in range(round((self.high - self.low) / self.step) + 1)]


@dataclass(frozen=True)
class Point:
    """A figure of the paper or of ours, where it is drawn."""

    x_px: float
    mean: float
    sd: float | None
    color: str
    ours: bool


def drawn(result: Result) -> str:
    """The picture, with title, axes, key, and what is not the paper's setting."""
    points = list(_points(result))
    scale = _scale(points)
    lines = [text for part in _below(result) for text in wrap(part, LINE_CHARS)]
    height = TOP_PX + PLOT_PX + 75 + LINE_PX * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" width="{WIDTH_PX}" '
        f'height="{height}" font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH_PX}" height="{height}" fill="white"/>',
        _text(LEFT_PX, 24, result.title, size=16),
        *_key(result),
        *_axes(result, scale),
        *_curves(result, points, scale),
        *(mark for point in points for mark in _marks(point, scale)),
        *(_text(LEFT_PX - 50, TOP_PX + PLOT_PX + 70 + LINE_PX * i, text, size=12) for i, text in enumerate(lines)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _below(result: Result) -> Iterator[str]:
    star = "*" if result.differs else ""
    yield f"Hollow points: the paper's; filled: ours{star}. Bars: standard deviation over runs, where it is known."
    yield from (text for text in result.told() if text.startswith(("*", "Not finished")))
    yield from result.notes[:1] if result.table == "fig5" else ()


def _points(result: Result) -> Iterator[Point]:
    """All there are, side by side within their category."""
    places = 2 * len(result.series)
    apart = min(26.0, 0.8 * _pitch_px(result) / places)
    for row, category in enumerate(result.categories):
        for column, series in enumerate(result.series):
            figure = result.at(category, series)
            for ours in (False, True) if figure else ():
                assert figure is not None
                value = _value(figure, ours)
                place = 2 * column + ours - (places - 1) / 2
                x_px = LEFT_PX + _pitch_px(result) * (row + 0.5) + apart * place
                if value:
                    yield Point(x_px, *value, COLORS[column % len(COLORS)], ours)


def _value(figure: Figure, ours: bool) -> tuple[float, float | None] | None:
    if ours:
        return None if figure.mean is None else (figure.mean, figure.sd)
    return None if figure.published is None else (figure.published.mean, figure.published.sd)


def _pitch_px(result: Result) -> float:
    return (WIDTH_PX - LEFT_PX - RIGHT_PX) / len(result.categories)


def _scale(points: list[Point]) -> Scale:
    """Round limits around all points and their bars."""
    ends = [point.mean + sign * (point.sd or 0.0) for point in points for sign in (-1, 1)] or [0.0, 100.0]
    span = max(max(ends) - min(ends), 1.0)
    step = next(step for step in (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, math.inf) if span / step <= 8)
    low, high = (step * f(end / step) for f, end in ((math.floor, min(ends)), (math.ceil, max(ends))))
    return Scale(low, high if high > low else low + step, step)


def _axes(result: Result, scale: Scale) -> Iterator[str]:
    right, bottom = WIDTH_PX - RIGHT_PX, TOP_PX + PLOT_PX
    for tick in scale.ticks():
        y = scale.y_px(tick)
        yield f'<line x1="{LEFT_PX}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>'
        yield _text(LEFT_PX - 8, y + 4, f"{tick:g}", anchor="end")
    yield f'<path d="M{LEFT_PX} {TOP_PX}V{bottom}H{right}" fill="none" stroke="{INK}"/>'
    for row, category in enumerate(result.categories):
        yield _text(LEFT_PX + _pitch_px(result) * (row + 0.5), bottom + 20, category, anchor="middle")
    yield _text((LEFT_PX + right) / 2, bottom + 43, result.axis, anchor="middle")
    middle = TOP_PX + PLOT_PX / 2
    turned = f'<g transform="rotate(-90 18 {middle})">'
    yield turned + _text(18, middle, "IoU in %" if result.table == "table3" else "mIoU in %", anchor="middle") + "</g>"


def _key(result: Result) -> Iterator[str]:
    x = float(LEFT_PX)
    for column, series in enumerate(result.series):
        for ours in (False, True):
            yield _dot(x + RADIUS_PX + 14 * ours, 44, COLORS[column % len(COLORS)], ours)
        yield _text(x + 30, 48, series)
        x += 60 + 7.5 * len(series)


def _curves(result: Result, points: list[Point], scale: Scale) -> Iterator[str]:
    """Through the values of one series, where the categories are an axis of numbers."""
    for color in COLORS if result.table in ("table4", "fig5") else ():
        for ours in (False, True):
            at = [f"{p.x_px:.1f},{scale.y_px(p.mean):.1f}" for p in points if (p.color, p.ours) == (color, ours)]
            if len(at) > 1:
                dashes = "" if ours else ' stroke-dasharray="4 4"'
                yield f'<polyline points="{" ".join(at)}" fill="none" stroke="{color}" opacity="0.6"{dashes}/>'


def _marks(point: Point, scale: Scale) -> Iterator[str]:
    if point.sd:
        low, high = (scale.y_px(point.mean + sign * point.sd) for sign in (-1, 1))
        x = point.x_px
        caps = f"M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"
        yield f'<path d="M{x:.1f} {low:.1f}V{high:.1f}{caps}" stroke="{point.color}" stroke-width="1.5" fill="none"/>'
    yield _dot(point.x_px, scale.y_px(point.mean), point.color, point.ours)


def _dot(x: float, y: float, color: str, ours: bool) -> str:
    fill = color if ours else "white"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS_PX}" fill="{fill}" stroke="{color}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
