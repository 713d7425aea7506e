"""What a report shows: plain values, gathered before any of it is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..assessment import Assessment, Intervals
from ..comparison import Comparison
from .pictures import Picture


@dataclass(frozen=True, eq=False)
class Scores:
    """What a run reaches on its validation tiles.

    Args:
        assessment: Tile by tile.
        intervals: Of the IoU.
    """

    assessment: Assessment
    intervals: Intervals


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Args:
        name: Unlike that of the others.
        path: As it was given.
        settings: By `group.field`; empty where they cannot be read.
        environment: Versions and machine; the same.
        lines: Of metrics.jsonl, in their order.
        counts: Tiles by use: labeled, unlabeled, val; empty where there is no split.
        step: Of the checkpoint that was evaluated; None where there is none.
        scores: None where nothing could be evaluated.
        missing: Why not.
    """

    name: str
    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[Mapping[str, Any], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    step: int | None = None
    scores: Scores | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Versus:
    """A later run beside the first one.

    Args:
        run: Its number.
        comparison: On the tiles that both hold out; None where they cannot be compared.
        why: Why they cannot, or what of them was compared; "" where it is all.
    """

    run: int
    comparison: Comparison | None
    why: str = ""


@dataclass(frozen=True)
class Row:
    """A validation tile.

    Args:
        tile: Its id.
        image: As it is.
        truth: Its labels.
        predictions: Of each run; None: the run has none of it.
        right: Share of the labelled pixels that each run predicts right; None as in `predictions`.
    """

    tile: str
    image: Picture
    truth: Picture
    predictions: tuple[Picture | None, ...]
    right: tuple[float | None, ...]


@dataclass(frozen=True)
class Group:
    """Tiles that are shown for one reason.

    Args:
        kind: As in `choice.KINDS`.
        rows: The tiles.
    """

    kind: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Unsure:
    """An unlabelled tile.

    Args:
        tile: Its id.
        entropy: Mean over its pixels, as a share of the largest there is.
        image: As it is; None: it is listed and not shown.
        prediction: Most probable classes; the same.
        where: Entropy of each pixel; the same.
    """

    tile: str
    entropy: float
    image: Picture | None = None
    prediction: Picture | None = None
    where: Picture | None = None


@dataclass(frozen=True)
class Labelling:
    """Unlabelled tiles, the least sure first.

    Args:
        run: Number of the run whose predictions they are.
        tiles: Those that were looked at.
        all: How many there are.
    """

    run: int
    tiles: tuple[Unsure, ...]
    all: int


@dataclass(frozen=True, eq=False)
class Gathered:
    """A report before it is written.

    Args:
        runs: The first is what the others are compared with.
        subject: Number of the run that chose the tiles and has their classes; None where no run was evaluated.
        versus: Each later run that was evaluated.
        colors: Of the classes of the tiles, by name.
        groups: Validation tiles.
        labelling: Unlabelled tiles; None where none were looked at.
        notes: What was left out, and why.
        version: Of s4aug.
        title: Of the page; "": what its runs are called.
    """

    runs: tuple[Run, ...]
    subject: int | None = None
    versus: tuple[Versus, ...] = ()
    colors: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    labelling: Labelling | None = None
    notes: tuple[str, ...] = ()
    version: str = ""
    title: str = ""
