"""The curve of a soak run (SVG), drawn as the charts of a report are."""

from collections.abc import Sequence
from importlib.resources import files

from s4aug_train.reporting.charts import HEIGHT_PX, WIDTH_PX, Line, line_chart
from s4aug_train.reporting.markup import Markup, tag

from .flatness import Verdict
from .usage import Usage

GAP_PX = 10  # around a chart
COUNTED = ("descriptors", "threads", "processes")


def picture(samples: Sequence[Usage], memory: Verdict, warmup_s: float) -> str:
    """Memory with its trend, and beside it all that is counted, over minutes: an SVG of its own."""
    minutes = tuple(sample.seconds / 60 for sample in samples)

    def line(name: str, look: int, kind: str) -> Line:
        return Line(name, look, minutes, tuple(float(getattr(sample, kind)) for sample in samples))

    ends = (warmup_s / 60, minutes[-1])
    trend = tuple(memory.start + memory.per_hour * (end - ends[0]) / 60 for end in ends)
    held = [
        line("resident", 0, "resident_mib"),
        line("anonymous", 1, "anonymous_mib"),
        Line("its trend", 2, ends, trend),
    ]
    counted = [line(kind, 3 + look, kind) for look, kind in enumerate(COUNTED)]
    return _sheet(
        line_chart("memory", "Memory", held, ("minutes", "memory (MiB)")),
        line_chart("counts", "Descriptors, threads and processes", counted, ("minutes", "how many")),
    )


def _sheet(*charts: Markup) -> str:
    """Charts beside each other, in the style of a report."""
    width, height = len(charts) * (WIDTH_PX + 2 * GAP_PX), HEIGHT_PX + 2 * GAP_PX
    box = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    css = (files("s4aug_train.reporting") / "page.css").read_text(encoding="utf-8")
    # Nothing is escaped in a style element; this text is ours.
    style = Markup(f"<style>\n{css}.chart {{ max-width: none; }}\n</style>")
    paper = tag("rect", {"fill": "var(--paper)", "width": width, "height": height})
    places = []
    for number, chart in enumerate(charts):
        left = GAP_PX + number * (WIDTH_PX + 2 * GAP_PX)
        places.append(tag("svg", {"x": left, "y": GAP_PX, "width": WIDTH_PX, "height": HEIGHT_PX}, chart))
    return tag("svg", {**box, "font-family": "sans-serif"}, style, paper, places).source + "\n"
