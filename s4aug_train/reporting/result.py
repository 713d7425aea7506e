"""The first section of a report: what was trained, on what, and what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..comparison import Comparison
from .cautions import cautions
from .gathered import Gathered, Run, Scores, Versus
from .markup import Content, Markup, tag
from .pieces import Section, folded, paragraph, run_name, section, small, table
from .scores import scored, with_interval
from .words import ABSENT, counted, listed, p_text, percent, points, whole


def page_title(runs: Sequence[Run]) -> str:
    """What the page is about."""
    if len(runs) == 1:
        return f"Report of {runs[0].name}"
    if len(runs) == 2:
        return f"{runs[1].name} compared with {runs[0].name}"
    return f"{counted(len(runs) - 1, 'run')} compared with {runs[0].name}"


def subtitle(gathered: Gathered) -> Markup:
    """On what the runs were trained and evaluated."""
    runs = gathered.runs
    places = list(
        dict.fromkeys(Path(str(run.settings["data.path"])).name for run in runs if "data.path" in run.settings)
    )
    classes = next((len(scores.assessment.classes) for _, _, scores in scored(runs)), None)
    parts = ["Land-cover segmentation"]
    parts += [f" of {listed(places)}"] if any(places) else []
    parts += [f" in {counted(classes, 'class').replace('classs', 'classes')}"] if classes else []
    return tag("p", {"class": "subtitle"}, parts, ".")


def result_section(gathered: Gathered) -> Section:
    """Headline numbers, what they mean in words, and a table of the runs."""
    runs = gathered.runs
    cards = [_card(gathered, number) for number in range(len(runs))]
    if len(runs) == 2:
        cards += [card for each in gathered.versus if (card := _difference_card(each)) is not None]
    verdicts = [paragraph(verdict(runs, each)) for each in gathered.versus]
    notes = [tag("li", {}, note) for note in (*cautions(runs), *gathered.notes)]
    content: list[Content] = [tag("div", {"class": "cards"}, cards)]
    if len(runs) > 2:
        content += [_overview(gathered), folded("The comparisons in words", verdicts) if verdicts else None]
    elif verdicts:
        content.append(tag("div", {"class": "verdict"}, verdicts))
    if notes:
        content.append(tag("ul", {"class": "notes", "aria-label": "Notes"}, notes))
    if any(scored(runs)):
        content.append(_meaning(runs))
    return section("result", "Result", content)


def _card(gathered: Gathered, number: int) -> Markup:
    """What a run is, and its mIoU."""
    run = gathered.runs[number]
    role = "" if len(gathered.runs) == 1 else ("baseline" if number == 0 else "compared with it")
    head = tag("p", {"class": "who"}, run_name(gathered.runs, number), tag("span", {"class": "role"}, role))
    return tag("div", {"class": "card"}, head, _headline(run), small(_trained(run)))


def _difference_card(versus: Versus) -> Markup | None:
    """How far two runs are apart, at a glance."""
    found = versus.comparison
    if found is None or found.difference is None:
        return None
    between = (
        "" if found.interval is None else f"95 % interval {points(found.interval[0])} to {points(found.interval[1])}"
    )
    tested = "" if found.p_value is None else f"{p_text(found.p_value)}, permutation test over tiles"
    return tag(
        "div",
        {"class": "card"},
        tag(
            "p",
            {"class": "who"},
            "Difference",
            tag("span", {"class": "role"}, "clear" if found.shown else "may be chance"),
        ),
        tag("p", {"class": "big"}, points(found.difference), tag("span", {"class": "unit"}, " points")),
        tag("p", {"class": "range"}, between),
        small(tested),
    )


def _headline(run: Run) -> Content:
    if run.scores is None:
        return [tag("p", {"class": "big"}, ABSENT), small(run.missing or "not evaluated")]
    scores = run.scores
    level, interval = 100 * scores.intervals.level, scores.intervals.miou
    tiles = counted(len(scores.assessment.tiles), "held-out tile")
    if interval is None:
        between = f"mIoU on {tiles}"
    else:
        between = f"mIoU on {tiles}; {level:.0f} % interval {100 * interval[0]:.1f} to {percent(interval[1])}"
    accuracy = f"overall accuracy {percent(scores.assessment.record().accuracy)}"
    return [
        tag("p", {"class": "big"}, percent(scores.assessment.miou)),
        tag("p", {"class": "range"}, between),
        tag("p", {"class": "range"}, accuracy),
    ]


def _trained(run: Run) -> str:
    """What a run is, in a sentence."""
    values, counts = run.settings, run.counts
    if not values:
        return "Its settings cannot be read."
    tiles = f"{counted(counts['labeled'], 'labelled tile')}" if counts else "tiles"
    if counts and values.get("method.name") == "full":
        tiles += f" and those of {counted(counts['unlabeled'], 'other')} that have a mask"
    elif counts and _wants_unlabelled(values):
        tiles += f" and {counted(counts['unlabeled'], 'unlabelled one')}"
    steps = values.get("train.steps")
    done = "" if run.step is None or run.step == steps else f" (evaluated after {whole(run.step)})"
    encoder = _network(values)
    return f"{values.get('method.name', '?')} on {tiles}, {encoder}, {whole(steps or 0)} steps{done}."


def _wants_unlabelled(values: Any) -> bool:
    """Whether a method looks at unlabelled tiles."""
    return values.get("method.name") not in ("supervised", "sup+affine")


def _network(values: Any) -> str:
    own = values.get("model.factory")
    if own:
        return f"network {own}"
    weights = {"imagenet": "pretrained on ImageNet", "none": "not pretrained"}
    given = str(values.get("model.weights", "?"))
    return f"encoder {values.get('model.encoder', '?')} {weights.get(given, 'pretrained')}"


def verdict(runs: Sequence[Run], versus: Versus) -> str:
    """A comparison in words."""
    run, first, found = runs[versus.run].name, runs[0].name, versus.comparison
    if found is None or found.difference is None:
        return f"{run} cannot be compared with {first}: {versus.why or 'the truth holds no class'}."
    size = f"{abs(100 * found.difference):.1f}"
    if found.shown:
        meaning = ": more than the choice of tiles would bring by chance"
    else:
        meaning = ": that may be chance, for the choice of tiles alone could bring as much"
    way = f"{size} percentage points {'above' if found.difference > 0 else 'below'}"
    if float(size) == 0:
        way, meaning = "the same as", ""
    note = f" ({versus.why})" if versus.why else ""
    tiles = f"the same {counted(found.tiles, 'held-out tile')}{note}"
    return f"On {tiles}, the mIoU of {run} is {way} that of {first}{_evidence(found)}{meaning}."


def _evidence(found: Comparison) -> str:
    if found.interval is None or found.p_value is None:
        return ""
    low, high = found.interval
    return f" (95 % interval {points(low)} to {points(high)}; {p_text(found.p_value)})"


def _overview(gathered: Gathered) -> Markup:
    """All runs as a table."""
    versus = {each.run: each.comparison for each in gathered.versus}
    head = ["run", "method", "mIoU", "difference to the first, points", "p", "overall accuracy", "ECE"]
    rows = [_overview_row(gathered.runs, number, versus.get(number)) for number in range(len(gathered.runs))]
    return table("All runs", head, rows, kind="numbers")


def _overview_row(runs: Sequence[Run], number: int, found: Comparison | None) -> list[Content]:
    scores = runs[number].scores
    return [
        run_name(runs, number),
        str(runs[number].settings.get("method.name", ABSENT)),
        ABSENT if scores is None else _miou(scores),
        ABSENT if found is None or found.difference is None else _difference(found.difference, found.interval),
        ABSENT if found is None or found.p_value is None else f"{found.p_value:.3f}",
        ABSENT if scores is None else percent(scores.assessment.record().accuracy),
        ABSENT if scores is None else percent(scores.assessment.ece()),
    ]


def _difference(value: float, interval: tuple[float, float] | None) -> Content:
    if interval is None:
        return points(value)
    low, high = (points(end) for end in interval)
    return [points(value), " ", tag("span", {"class": "interval"}, f"({low} to {high})")]


def _miou(scores: Scores) -> Content:
    value = scores.assessment.miou
    return percent(value) if value is None else with_interval(value, scores.intervals.miou)


def _meaning(runs: Sequence[Run]) -> Markup:
    """What the numbers are, and what they leave out."""
    return small(
        "mIoU is the mean over the classes of intersection over union, overall accuracy the share of the pixels that "
        "are predicted right; both from one confusion matrix over all held-out tiles. Intervals and p-values come from "
        "resampling these tiles, which are taken for independent of each other; neighbouring tiles are not quite.",
        " Each run is one training with one seed; how much another seed would change is not in these intervals."
        if len(runs) > 1
        else "",
    )
