"""A table of results as CSV and Markdown."""

import csv
import io
from pathlib import Path

from ..files import write_text
from .chart import drawn
from .results import Result

BESIDE = 2  # columns of the paper that a terminal holds with ours beside each
COLUMNS = (
    *("row", "column", "paper_mean", "paper_sd", "ours_mean", "ours_sd", "n", "seeds", "values"),
    *("papers_setting", "differs"),
)


def header(result: Result) -> list[str]:
    """Of the table for people."""
    if len(result.series) > BESIDE:
        return [result.axis, "", *result.series]
    return [result.axis, *(f"{series}, {whose}" for series in result.series for whose in ("paper", "ours"))]


def rows(result: Result) -> list[list[str]]:
    """The table for people: the paper's figures beside ours, or above them where there are many columns."""
    table = []
    for category in result.categories:
        figures = [result.at(category, series) for series in result.series]
        theirs = ["-" if figure is None else str(figure.published or "-") for figure in figures]
        ours = ["-" if figure is None else result.ours(figure) for figure in figures]
        if len(figures) > BESIDE:
            table += [[category, "paper", *theirs], ["", "ours", *ours]]
        else:
            table.append([category, *(text for pair in zip(theirs, ours, strict=True) for text in pair)])
    return table


def as_csv(result: Result) -> str:
    """One line a figure, with the values of each seed, unrounded."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(COLUMNS)
    for figure in result.figures:
        published, ours = figure.published, (figure.mean, figure.sd)
        theirs = (published.mean, published.sd) if published else (None, None)
        of_seeds = [" ".join(map(str, part)) for part in (figure.values.keys(), figure.values.values())]
        setting = ["no" if result.differs else "yes", "; ".join(result.differs)]
        lines.writerow([figure.category, figure.series, *theirs, *ours, len(figure.values), *of_seeds, *setting])
    return file.getvalue()


def as_markdown(result: Result) -> str:
    """The table and all that is to be said of it."""
    cells = [header(result), ["---"] * len(header(result)), *rows(result)]
    table = "\n".join("| " + " | ".join(map(_escaped, row)) + " |" for row in cells)
    title, *told = map(_escaped, (result.title, *result.told()))
    return "\n\n".join([f"# {title}", table, "![The figures as points](figure.svg)", *told]) + "\n"


def write_all(result: Result, folder: Path) -> None:
    """Write results.csv, results.md and figure.svg, each whole or not at all.

    Raises:
        S4AugTrainError: The disk is full, or the folder cannot be written to.
    """
    write_text(folder / "results.csv", as_csv(result))
    write_text(folder / "results.md", as_markdown(result))
    write_text(folder / "figure.svg", drawn(result))


def _escaped(text: str) -> str:
    """Stars, bars and angles have a meaning in Markdown."""
    for special in "*|<":
        text = text.replace(special, f"\\{special}")
    return text
