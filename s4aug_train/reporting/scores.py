"""The sections of what runs reach on their validation tiles: classes, confusions, boundaries, calibration."""

from collections.abc import Iterator, Sequence

from ..assessment import Assessment
from .charts import Bar, Line, category_chart, interval_chart, reliability_chart
from .gathered import Gathered, Run, Scores
from .markup import Content, Markup, tag
from .pieces import Section, figure, folded, paragraph, run_legend, run_name, section, small, table
from .words import ABSENT, percent, whole

RARE = 0.01  # share of the pixels below which a bin of confidences says little


def scored(runs: Sequence[Run]) -> Iterator[tuple[int, Run, Scores]]:
    """The runs that were evaluated, with their numbers."""
    for number, run in enumerate(runs):
        if run.scores is not None:
            yield number, run, run.scores


def scores_sections(gathered: Gathered) -> list[Section]:
    """All of them; none without an evaluated run."""
    runs = gathered.runs
    if not any(scored(runs)):
        return []
    return [_classes(runs), _confusions(runs), _boundaries(runs), _calibration(runs)]


def _classes(runs: Sequence[Run]) -> Section:
    """IoU by class with intervals, as a chart and as a table."""
    numbers = [number for number, _, _ in scored(runs)]
    level = next(scores.intervals.level for _, _, scores in scored(runs))
    names = list(dict.fromkeys(name for _, _, scores in scored(runs) for name in scores.assessment.classes))
    rows = [("mean of the classes (mIoU)", [_mean_bar(*one) for one in scored(runs)])]
    rows += [(name, [_bar(*one, name) for one in scored(runs) if name in one[2].assessment.classes]) for name in names]
    title = f"IoU by class, with {100 * level:.0f} % intervals"
    drawing = interval_chart("iou", title, rows, "IoU (%)", aside="not in the truth")
    cells = [[name, *(_cells(bars, numbers))] for name, bars in rows]
    head = ["class", *(f"{runs[n].name}, IoU" for n in numbers)]
    told = paragraph(
        "IoU is the share of pixels that truth and prediction both give a class, among those that either of them gives "
        "it. Intervals tell how far it would move with another draw of held-out tiles of this kind (bootstrap over "
        "tiles); they do not hold what another seed of training would change."
    )
    wide = tag("div", {"class": "beside"}, figure(drawing, title), table("IoU by class", head, cells))
    return section("classes", "Classes", told, run_legend(runs, numbers), wide, _accuracies(runs, names))


def _accuracies(runs: Sequence[Run], names: Sequence[str]) -> list[Content]:
    """What makers of maps call accuracies, by class."""
    told = paragraph(
        "Of the pixels that are predicted as a class, its user's accuracy (precision) is the share that is of it: what "
        "a user of the map can trust. Of the pixels that are of it, its producer's accuracy (recall) is the share that "
        "is predicted as it: what the map finds. The overall accuracy is the share of all pixels that is right."
    )
    head, columns = ["class"], list[list[Content]]()
    for _, run, scores in scored(runs):
        head += [f"{run.name}, user's", f"{run.name}, producer's"]
        columns += _accuracy_columns(scores.assessment, names)
    rows = [[name, *cells] for name, *cells in zip([*names, "overall accuracy"], *columns, strict=True)]
    return [told, table("User's and producer's accuracy by class", head, rows, kind="numbers")]


def _accuracy_columns(assessment: Assessment, names: Sequence[str]) -> Iterator[list[Content]]:
    """Two of them, user's and producer's: a cell for each class, then the overall accuracy, which is one for both."""
    confusion, overall = assessment.confusion(), percent(assessment.record().accuracy)
    for shares, none in ((confusion.precision(), "never predicted"), (confusion.recall(), "not in the truth")):
        cells = (none if share is None else percent(share) for share in shares)
        found = dict(zip(assessment.classes, cells, strict=True))
        yield [*(found.get(name, "no such class") for name in names), overall]


def _mean_bar(number: int, run: Run, scores: Scores) -> Bar:
    return Bar(run.name, number, scores.assessment.miou, scores.intervals.miou)


def _bar(number: int, run: Run, scores: Scores, name: str) -> Bar:
    return Bar(run.name, number, scores.assessment.iou()[name], scores.intervals.iou[name])


def _cells(bars: Sequence[Bar], numbers: Sequence[int]) -> Iterator[Content]:
    found = {bar.look: bar for bar in bars}
    for number in numbers:
        bar = found.get(number)
        if bar is None:
            yield "no such class"
        elif bar.value is None:
            yield "not in the truth"
        else:
            yield with_interval(bar.value, bar.interval)


def with_interval(value: float, interval: tuple[float, float] | None) -> Content:
    """A share and its interval, which may go to a second line."""
    if interval is None:
        return percent(value)
    low, high = (f"{100 * end:.1f}" for end in interval)
    return [percent(value), " ", tag("span", {"class": "interval"}, f"({low}\u2013{high})")]


def _confusions(runs: Sequence[Run]) -> Section:
    """A matrix for each run."""
    told = paragraph(
        "Each row is a class of the truth, and tells in percent what its pixels were predicted as; the diagonal is "
        "what was found (producer's accuracy, recall)."
    )
    parts = [_confusion(run, scores) for _, run, scores in scored(runs)]
    return section("confusion", "Confusions", told, tag("div", {"class": "pairs"}, parts))


def _confusion(run: Run, scores: Scores) -> Markup:
    counts, classes = scores.assessment.confusion().counts, scores.assessment.classes
    totals = [int(row.sum()) for row in counts]
    whole_ = max(sum(totals), 1)
    head = ["truth \u2193  prediction \u2192", *classes, "share of truth"]
    rows: list[list[Content]] = []
    for index, name in enumerate(classes):
        shares = [int(count) / totals[index] if totals[index] else None for count in counts[index]]
        cells = [_heat_cell(share, index == other) for other, share in enumerate(shares)]
        rows.append([name, *cells, percent(totals[index] / whole_)])
    pixels = [[name, *(whole(int(count)) for count in counts[index])] for index, name in enumerate(classes)]
    return tag(
        "div",
        {},
        tag("h3", {}, run.name),
        table(f"Confusion matrix of {run.name}, % of each true class", head, rows, kind="heat"),
        folded("Pixels", table(f"Confusion matrix of {run.name}, px", head[:-1], pixels, kind="numbers")),
    )


def _heat_cell(share: float | None, diagonal: bool) -> Markup:
    if share is None:
        return tag("td", {"class": "none"}, ABSENT)
    shown = {"style": f"--share:{100 * share:.1f}%", **({"class": "hit"} if diagonal else {})}
    return tag("td", shown, f"{100 * share:.1f}")


def _boundaries(runs: Sequence[Run]) -> Section:
    """How much is right near the edges of the truth, and far from them."""
    found = [(number, run, scores.assessment.boundary()) for number, run, scores in scored(runs)]
    names = [near.label for near in found[0][2]]
    short = [name.replace("over ", ">") for name in names]
    # Distances are binned alike in all runs.
    lines = [
        Line(run.name, number, tuple(range(len(bins))), tuple(near.accuracy for near in bins))
        for number, run, bins in found
    ]
    title = "Pixels predicted right, by their distance to a boundary"
    told = paragraph(
        "Near a boundary between two classes of the truth masks are least exact and networks least sure; far from one "
        "an error is a whole area taken for another class."
    )
    rows = [
        [label, percent(found[0][2][index].share), *(percent(bins[index].accuracy) for _, _, bins in found)]
        for index, label in enumerate(names)
    ]
    first = found[0][1].name
    share = "share of pixels" if len(found) == 1 else f"share of pixels ({first})"
    head = ["distance", share, *(f"{run.name}, right" for _, run, _ in found)]
    parts = [table("Accuracy by distance to the nearest boundary of the truth", head, rows, kind="numbers")]
    if any(line.known for line in lines):
        drawing = category_chart("boundary", title, short, lines, ("distance (px)", "right (%)"))
        parts.insert(0, figure(drawing, title))
    legend = run_legend(runs, [number for number, _, _ in found])
    return section("boundaries", "Boundaries", told, legend, tag("div", {"class": "beside"}, parts))


def _calibration(runs: Sequence[Run]) -> Section:
    """The reliability diagram and what it comes to."""
    found = [(number, run, scores.assessment) for number, run, scores in scored(runs)]
    lines = [_reliability(number, run, assessment, rare=False) for number, run, assessment in found]
    rare = [_reliability(number, run, assessment, rare=True) for number, run, assessment in found]
    told = paragraph(
        "A network is calibrated if, of the pixels that it is 80 % sure of, 80 % are right. Below the diagonal it is "
        "surer than it is right. The expected calibration error (ECE) is the mean distance to the diagonal, weighted "
        "by pixels; 0 is best."
    )
    rows: list[list[Content]] = [[run_name(runs, number), percent(assessment.ece())] for number, _, assessment in found]
    numbers = [_bins_table(run, assessment) for _, run, assessment in found]
    side = tag("div", {}, table("Expected calibration error", ["run", "ECE"], rows, kind="numbers"), numbers)
    parts: list[Markup] = [side]
    if any(line.known for line in lines):
        title = "Reliability: how often a confidence is right"
        drawing = reliability_chart("reliability", title, lines, rare, ("confidence (%)", "right (%)"))
        parts.insert(0, figure(drawing, title))
    note = small(
        "Confidence is the probability of the class that is predicted, as the network gives it. Dashed: as right as "
        "sure. Hollow marks: fewer than 1 % of the pixels."
    )
    legend = run_legend(runs, [number for number, _, _ in found])
    return section("calibration", "Calibration", told, legend, tag("div", {"class": "beside"}, parts), note)


def _reliability(number: int, run: Run, assessment: Assessment, *, rare: bool) -> Line:
    """Accuracy by confidence, of the bins that hold few pixels or of the others."""
    bins = [b for b in assessment.calibration() if b.confidence is not None and (b.share < RARE) == rare]
    return Line(run.name, number, tuple(b.confidence or 0.0 for b in bins), tuple(b.accuracy for b in bins))


def _bins_table(run: Run, assessment: Assessment) -> Markup:
    head = ["confidence, %", "share of pixels", "mean confidence", "right"]
    rows = [
        [
            f"{100 * one.low:.0f}\u2013{100 * one.high:.0f}",
            percent(one.share),
            percent(one.confidence),
            percent(one.accuracy),
        ]
        for one in assessment.calibration()
    ]
    return folded(f"Numbers of {run.name}", table(f"Calibration of {run.name}", head, rows, kind="numbers"))
