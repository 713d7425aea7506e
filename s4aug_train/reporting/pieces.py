"""What all sections of a report are made of."""

from collections.abc import Sequence
from typing import NamedTuple

from .charts import key_of
from .gathered import Run
from .markup import Content, Markup, tag


class Section(NamedTuple):
    """A part of the page that the list of parts leads to."""

    key: str
    title: str
    content: Content

    def drawn(self) -> Markup:
        """With its heading."""
        heading = tag("h2", {"id": f"{self.key}-heading"}, self.title)
        return tag("section", {"id": self.key, "aria-labelledby": f"{self.key}-heading"}, heading, self.content)


def section(key: str, title: str, *content: Content) -> Section:
    """A part of the page of several pieces."""
    return Section(key, title, content)


def paragraph(*content: Content) -> Markup:
    """A paragraph."""
    return tag("p", {}, *content)


def small(*content: Content) -> Markup:
    """A paragraph of what need not be read at first."""
    return tag("p", {"class": "small"}, *content)


def figure(drawing: Markup, title: str, *told: Content) -> Markup:
    """A chart under its title, with what more is to be said below."""
    caption = tag("figcaption", {}, tag("strong", {}, title), *told)
    return tag("figure", {}, caption, drawing)


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Content]], *, kind: str = "") -> Markup:
    """A table that scrolls within itself where it is wider than the screen.

    Args:
        caption: What it holds.
        head: Of each column.
        rows: Cells; the first names its row. Markup made by `tag("td", ...)` stays as it is.
        kind: Class of the table, for its style.
    """
    top = tag("tr", {}, [tag("th", {"scope": "col"}, text) for text in head])
    body = [tag("tr", {}, tag("th", {"scope": "row"}, row[0]), [_cell(cell) for cell in row[1:]]) for row in rows]
    whole = tag("table", {"class": kind}, tag("caption", {}, caption), tag("thead", {}, top), tag("tbody", {}, body))
    return tag("div", {"class": "scroll", "role": "region", "aria-label": caption, "tabindex": 0}, whole)


def _cell(cell: Content) -> Content:
    made = isinstance(cell, Markup) and cell.source.startswith("<td")
    return cell if made else tag("td", {}, cell)


def folded(summary: str, *content: Content) -> Markup:
    """What is shown when its line is opened."""
    return tag("details", {}, tag("summary", {}, summary), *content)


def run_legend(runs: Sequence[Run], numbers: Sequence[int]) -> Markup | None:
    """Which look which run has; none for a single one."""
    if len(numbers) < 2:
        return None
    items = [tag("li", {}, key_of(number), runs[number].name) for number in numbers]
    return tag("ul", {"class": "legend", "aria-label": "Runs"}, items)


def run_name(runs: Sequence[Run], number: int) -> Markup:
    """The name of a run with its mark, as in the charts."""
    return tag("span", {"class": "run"}, key_of(number), runs[number].name)
