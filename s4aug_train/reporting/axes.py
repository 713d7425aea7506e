"""Axes of charts: where a value lies, and which are written beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .markup import Attributes, Markup, tag

LETTER_PX = 7  # about the width of a bold letter of 11 px
LINE_PX = 13  # from one label to the next
STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Scale:
    """How values become places.

    Args:
        low: The value at `start`.
        high: The value at `stop`; not `low`.
        start: px.
        stop: px.
    """

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """The place of a value, px."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def ticks(low: float, high: float, count: int) -> list[float]:
    """At most so many round values from `low` to `high`, a step of 1, 2, 2.5 or 5 times a power of ten apart."""
    power = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    while True:
        for step in (power * factor for factor in STEPS):
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < count:
                return [index * step for index in range(first, last + 1)]
        power *= 10


def limits(values: Sequence[float]) -> tuple[float, float]:
    """From where to where an axis goes that shows values: from 0 on if none is below."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low >= 0:
        low = 0.0
    spare = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (low if low == 0 else low - spare), high + spare


def tick_texts(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """What is written beside ticks: all with as many digits as their step takes."""
    shown = [100 * value if percent else value for value in values]
    divisor, suffix = 1.0, ""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if not percent and shown and max(abs(value) for value in shown) >= 2 * size:
            divisor, suffix = size, letter
            break
    shown = [value / divisor for value in shown]
    step = min((b - a for a, b in pairwise(shown)), default=1.0)
    digits = next((n for n in range(12) if step * 10**n > 0.5 and round(step * 10**n, 6) % 1 == 0), 12)
    return [f"{value:.{digits}f}{suffix if value else ''}" for value in shown]


@dataclass(frozen=True)
class Frame:
    """The field of a chart, with its two scales.

    Args:
        width: Of the whole picture, px.
        height: Of the whole picture, px.
        x: From left to right.
        y: From bottom to top.
    """

    width: float
    height: float
    x: Scale
    y: Scale

    def rows(self, label: str, *, shares: bool = False) -> list[Markup]:
        """The axis from bottom to top, with lines across; its label is written above it, for it is longer than ticks.

        Args:
            label: What is shown, with its unit.
            shares: Values are shares of 1, ticks percent.
        """
        values, drawn = ticks(self.y.low, self.y.high, 6), []
        for value, text in zip(values, tick_texts(values, percent=shares), strict=True):
            place = round(self.y.at(value), 1)
            ends = {"x1": self.x.start, "x2": self.x.stop, "y1": place, "y2": place}
            drawn.append(tag("line", {"class": "grid", **ends}))
            where: Attributes = {
                "class": "tick y",
                "x": self.x.start - 6,
                "y": place,
                "dy": "0.33em",
                "text-anchor": "end",
            }
            drawn.append(tag("text", where, text))
        return [*drawn, tag("text", {"class": "axis", "x": 2, "y": 12}, label)]

    def columns(self, label: str, *, shares: bool = False) -> list[Markup]:
        """The axis from left to right; as in `rows`."""
        values = ticks(self.x.low, self.x.high, 5)
        return self._columns(values, tick_texts(values, percent=shares), label)

    def categories(self, names: Sequence[str], label: str) -> list[Markup]:
        """The axis from left to right with names at 0, 1, 2, ..."""
        return self._columns(range(len(names)), names, label)

    def _columns(self, values: Sequence[float], texts: Sequence[str], label: str) -> list[Markup]:
        foot = self.y.start
        drawn = [tag("line", {"class": "base", "x1": self.x.start, "x2": self.x.stop, "y1": foot, "y2": foot})]
        for value, text in zip(values, texts, strict=True):
            place = round(self.x.at(value), 1)
            drawn.append(tag("line", {"class": "base", "x1": place, "x2": place, "y1": foot, "y2": foot + 4}))
            where: Attributes = {"class": "tick x", "x": place, "y": foot + 16, "text-anchor": "middle"}
            drawn.append(tag("text", where, text))
        where = {"class": "axis", "x": self.x.stop, "y": foot + 31, "text-anchor": "end"}
        return [*drawn, tag("text", where, label)]

    def drawing(self, key: str, title: str, description: str, content: Sequence[Markup]) -> Markup:
        """The picture, named and described for those who do not see it.

        Args:
            key: Unique on the page.
            title: Its name.
            description: What it shows, in words.
            content: What is drawn.
        """
        names = {"role": "img", "aria-labelledby": f"{key}-title {key}-desc"}
        box = {"class": "chart", "viewBox": f"0 0 {self.width:g} {self.height:g}", **names}
        told = [tag("title", {"id": f"{key}-title"}, title), tag("desc", {"id": f"{key}-desc"}, description)]
        return tag("svg", box, told, content)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float] | None:
    """Places that are at least `gap` apart, within limits, in the same order, near those that are wanted.

    Returns:
        None where they do not fit.
    """
    if (len(places) - 1) * gap > high - low:
        return None
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    floor = low
    for index in order:
        moved[index] = max(moved[index], floor)
        floor = moved[index] + gap
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved
