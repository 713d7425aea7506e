"""Charts as SVG, drawn by us: no script, colours from the page's style, told in words beside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .axes import LETTER_PX, LINE_PX, Frame, Scale, limits, spread, ticks
from .markup import Markup, joined, tag
from .words import number, percent, shortened

WIDTH_PX, HEIGHT_PX = 360, 240
LEFT_PX, TOP_PX, BOTTOM_PX, RIGHT_PX = 44, 24, 38, 10
LABEL_LETTERS = 13  # of a run's name beside its line
LOOKS = 6  # of runs: a colour and a mark; more runs begin again with other dashes
DASHES = ("", "6 3", "2 3")
MARKED = 40  # values at most that are marked one by one
HEAD_PX = 20  # of a row's name in an interval chart
BINS = 240  # values of a line at most; more are averaged
MARKS = (
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "M-3.2 -3.2h6.4v6.4h-6.4z",
    "M0 -4.4L4.2 3.4H-4.2z",
    "M0 -4.6L4.6 0L0 4.6L-4.6 0z",
    "M0 4.4L4.2 -3.4H-4.2z",
    "M-3.6 -1.2h2.4v-2.4h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4z",
)


@dataclass(frozen=True)
class Line:
    """Values of one run along an axis.

    Args:
        name: Of the run.
        look: Which of the looks it has: the number of the run.
        x: Rising.
        y: At each; None or not finite: there is none, and the line has a gap.

    Raises:
        ValueError: x and y differ in length.
    """

    name: str
    look: int
    x: tuple[float, ...]
    y: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"the line {self.name} has {len(self.x)} places and {len(self.y)} values")

    @property
    def known(self) -> list[tuple[float, float]]:
        """Where there are values, and which."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None and math.isfinite(y)]

    def thinned(self) -> "Line":
        """With at most `BINS` values: each is the mean of neighbours, at the mean of their places."""
        size = math.ceil(len(self.x) / BINS)
        if size <= 1:
            return self
        groups = [Line("", 0, self.x[i : i + size], self.y[i : i + size]).known for i in range(0, len(self.x), size)]
        means = [tuple(sum(part) / len(group) for part in zip(*group, strict=True)) for group in groups if group]
        return Line(self.name, self.look, tuple(x for x, _ in means), tuple(y for _, y in means))


def mark(look: int, x: float, y: float, *, hollow: bool = False) -> Markup:
    """The mark of a run."""
    place = {"transform": f"translate({round(x, 1)} {round(y, 1)})", "d": MARKS[look % LOOKS]}
    return tag("path", {"class": f"mark {'hollow ' if hollow else ''}c{look % LOOKS}", **place})


def key_of(look: int) -> Markup:
    """Line and mark of a run, as in a legend."""
    line = tag("path", {"class": f"line c{look % LOOKS}", "d": "M0 7H28", **_dash(look)})
    return tag("svg", {"class": "key", "viewBox": "0 0 28 14", "aria-hidden": "true"}, line, mark(look, 14, 7))


def line_chart(
    key: str,
    title: str,
    lines: Sequence[Line],
    labels: tuple[str, str],
    *,
    shares: bool = False,
) -> Markup:
    """Lines over numbers; the axis begins at 0 where no value is below.

    Args:
        key: Unique on the page.
        title: Of the chart.
        lines: One at least has a value.
        labels: Of the axes, x and y, with units.
        shares: Values are shares of 1, shown in percent.
    """
    lines = [line.thinned() for line in lines if line.known]
    x = [x for line in lines for x, _ in line.known]
    low, high = limits([y for line in lines for _, y in line.known])
    if shares:
        low, high = max(low, 0.0), min(high, 1.0)
    frame = _frame((0.0, max(x) or 1.0), (low, high), _label_room(lines))
    content = [*frame.rows(labels[1], shares=shares), *frame.columns(labels[0]), *_curves(frame, lines)]
    return frame.drawing(key, title, _told(lines, shares), content)


def category_chart(
    key: str, title: str, names: Sequence[str], lines: Sequence[Line], labels: tuple[str, str]
) -> Markup:
    """Shares of 1 over named steps; the places of `lines` are the numbers of the names."""
    lines = [line for line in lines if line.known]
    low = min(y for line in lines for _, y in line.known)
    bounds = (max(0.0, math.floor(10 * low - 0.5) / 10), 1.0)
    frame = _frame((-0.4, len(names) - 0.6), bounds, _label_room(lines))
    content = [*frame.rows(labels[1], shares=True), *frame.categories(names, labels[0]), *_curves(frame, lines)]
    return frame.drawing(key, title, _told(lines, True, names), content)


def reliability_chart(
    key: str, title: str, lines: Sequence[Line], rare: Sequence[Line], labels: tuple[str, str]
) -> Markup:
    """Accuracy over confidence, both shares of 1, and the diagonal on which both are the same.

    Args:
        key: As in `line_chart`.
        title: As in `line_chart`.
        lines: What most pixels do; one at least has a value.
        rare: What few pixels do: marked hollow, without a line.
        labels: As in `line_chart`.
    """
    lines = [line for line in lines if line.known]
    frame = _frame((0.0, 1.0), (0.0, 1.0), _label_room(lines), height=320)
    few = [mark(line.look, frame.x.at(x), frame.y.at(y), hollow=True) for line in rare for x, y in line.known]
    ends = {"x1": frame.x.start, "y1": frame.y.start, "x2": frame.x.stop, "y2": frame.y.stop}
    ideal = tag("line", {"class": "ideal", **ends})
    axes = [*frame.rows(labels[1], shares=True), *frame.columns(labels[0], shares=True)]
    return frame.drawing(key, title, _told(lines, True), [*axes, ideal, *few, *_curves(frame, lines)])


@dataclass(frozen=True)
class Bar:
    """A share of 1 with its interval, of one run.

    Args:
        name: Of the run.
        look: As in `Line`.
        value: None: there is none.
        interval: From and to; None: it is not known.
    """

    name: str
    look: int
    value: float | None
    interval: tuple[float, float] | None


def interval_chart(
    key: str, title: str, rows: Sequence[tuple[str, Sequence[Bar]]], label: str, *, aside: str = ""
) -> Markup:
    """Shares with intervals, a row for each name and in it a line for each run.

    Args:
        key: Unique on the page.
        title: Of the chart.
        rows: Names and what belongs to each.
        label: Of the axis.
        aside: What is written where a value is missing.
    """
    tops, top = [], 8.0
    for _, bars in rows:
        tops.append(top)
        top += HEAD_PX + LINE_PX * len(bars) + 6
    frame = Frame(WIDTH_PX, top + 42, Scale(0.0, _reach(rows), 12, WIDTH_PX - 20), Scale(0.0, 1.0, top, 4))
    drawn = [*_verticals(frame), *frame.columns(label, shares=True)]
    for (name, bars), above in zip(rows, tops, strict=True):
        drawn.append(tag("text", {"class": "row", "x": 12, "y": above + 14}, shortened(name, 44)))
        for index, bar in enumerate(bars):
            drawn.append(_bar(frame.x, bar, above + HEAD_PX + LINE_PX * (index + 0.5), aside))
    told = "; ".join(f"{name}: {', '.join(_bar_told(bar) for bar in bars)}" for name, bars in rows)
    return frame.drawing(key, title, told, drawn)


def _reach(rows: Sequence[tuple[str, Sequence[Bar]]]) -> float:
    """Where the axis of an interval chart ends."""
    known = [bar for _, bars in rows for bar in bars if bar.value is not None]
    ends = [end for bar in known for end in (bar.value or 0.0, *(bar.interval or ()))]
    return min(1.0, max(ends, default=0.0) * 1.04) or 1.0


def _verticals(frame: Frame) -> list[Markup]:
    places = [round(frame.x.at(value), 1) for value in ticks(frame.x.low, frame.x.high, 5)]
    ends = {"y1": frame.y.start, "y2": frame.y.stop}
    return [tag("line", {"class": "grid", "x1": place, "x2": place, **ends}) for place in places]


def _bar(scale: Scale, bar: Bar, y: float, aside: str) -> Markup:
    if bar.value is None:
        return tag("text", {"class": "note", "x": scale.start + 4, "y": y + 4}, f"{bar.name}: {aside}")
    parts = []
    if bar.interval is not None:
        low, high = (round(scale.at(end), 1) for end in bar.interval)
        whisker = f"M{low} {y - 3}V{y + 3}M{low} {y}H{high}M{high} {y - 3}V{y + 3}"
        parts.append(tag("path", {"class": f"whisker c{bar.look % LOOKS}", "d": whisker, **_dash(bar.look)}))
    return joined(parts, mark(bar.look, scale.at(bar.value), y))


def _bar_told(bar: Bar) -> str:
    if bar.value is None:
        return f"{bar.name} none"
    between = "" if bar.interval is None else f" ({percent(bar.interval[0])} to {percent(bar.interval[1])})"
    return f"{bar.name} {percent(bar.value)}{between}"


def _frame(x: tuple[float, float], y: tuple[float, float], right: float, height: float = HEIGHT_PX) -> Frame:
    across = Scale(*x, LEFT_PX, WIDTH_PX - right)
    return Frame(WIDTH_PX, height, across, Scale(*y, height - BOTTOM_PX, TOP_PX))


def _label_room(lines: Sequence[Line]) -> float:
    """What the names beside the lines need, px."""
    if not _named(lines):
        return RIGHT_PX
    return RIGHT_PX + LETTER_PX * max(len(shortened(line.name, LABEL_LETTERS)) for line in lines)


def _named(lines: Sequence[Line]) -> bool:
    """Whether names stand beside lines: one line needs none, and too many have no room there."""
    return 1 < len(lines) <= LOOKS * 2


def _curves(frame: Frame, lines: Sequence[Line]) -> list[Markup]:
    """Lines, their marks, and names where they end."""
    return [*_lines(frame, lines), *_names(frame, lines)]


def _lines(frame: Frame, lines: Sequence[Line]) -> list[Markup]:
    drawn = []
    for line in lines:
        look = {"class": f"line c{line.look % LOOKS}", **_dash(line.look)}
        drawn.append(tag("path", {**look, "d": _path(frame, line), "data-run": line.name}))
        alone = [line.known[0]] if len(line.known) == 1 else []
        shown = line.known if len(line.known) <= MARKED else alone
        drawn += [mark(line.look, frame.x.at(x), frame.y.at(y)) for x, y in shown]
    return drawn


def _path(frame: Frame, line: Line) -> str:
    """The way of a line; it is taken up again after a gap."""
    steps, drawn = [], False
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or not math.isfinite(y):
            drawn = False
            continue
        steps.append(f"{'L' if drawn else 'M'}{frame.x.at(x):.1f} {frame.y.at(y):.1f}")
        drawn = True
    return "".join(steps)


def _names(frame: Frame, lines: Sequence[Line]) -> list[Markup]:
    """Names of the runs where their lines end."""
    if not _named(lines):
        return []
    places = spread([frame.y.at(line.known[-1][1]) for line in lines], LINE_PX, TOP_PX, frame.y.start)
    if places is None:
        return []
    left = frame.x.stop + 6
    return [
        tag(
            "text",
            {"class": f"name f{line.look % LOOKS}", "x": left, "y": round(place, 1), "dy": "0.33em"},
            shortened(line.name, LABEL_LETTERS),
        )
        for line, place in zip(lines, places, strict=True)
    ]


def _dash(look: int) -> dict[str, str | float]:
    dash = DASHES[look // LOOKS % len(DASHES)]
    return {"stroke-dasharray": dash} if dash else {}


def _told(lines: Sequence[Line], shares: bool, names: Sequence[str] | None = None) -> str:
    """The lines in words."""
    shown = percent if shares else number

    if names is not None:
        return "; ".join(f"{li.name}: {', '.join(f'{names[int(x)]} {shown(y)}' for x, y in li.known)}" for li in lines)
    ends = [(line.name, line.known[0], line.known[-1], [y for _, y in line.known]) for line in lines]
    return "; ".join(
        f"{name}: {shown(first[1])} at {number(first[0])}, {shown(last[1])} at {number(last[0])}, between "
        f"{shown(min(values))} and {shown(max(values))}"
        for name, first, last, values in ends
    )
