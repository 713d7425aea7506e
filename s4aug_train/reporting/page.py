"""The page of a report: one HTML file that loads nothing and runs nothing."""

from collections.abc import Sequence
from importlib.resources import files

from .curves import curves_section
from .gathered import Gathered
from .markup import Markup, tag
from .pieces import Section, small
from .result import page_title, result_section, subtitle
from .scores import scores_sections
from .settings import settings_sections
from .tiles import tiles_sections

# The browser holds the page to it: pictures and style are within, nothing else is loaded or run.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(gathered: Gathered) -> str:
    """The whole file.

    Args:
        gathered: What it shows.
    """
    title = gathered.title or page_title(gathered.runs)
    sections = [
        result_section(gathered),
        *scores_sections(gathered),
        *tiles_sections(gathered),
        curves_section(gathered),
        *settings_sections(gathered),
    ]
    skip = tag("a", {"class": "skip", "href": "#main"}, "Skip to the result")
    top = tag("header", {}, tag("h1", {}, title), subtitle(gathered), _contents(sections))
    main = tag("main", {"id": "main", "tabindex": -1}, [each.drawn() for each in sections])
    told = small(f"Made by s4aug-train report (s4aug {gathered.version}). The page loads nothing and runs no script.")
    body = tag("body", {}, skip, top, main, tag("footer", {}, told))
    return f"<!doctype html>\n{tag('html', {'lang': 'en'}, _head(title), body).source}\n"


def _contents(sections: Sequence[Section]) -> Markup:
    """Links to all sections."""
    links = [tag("li", {}, tag("a", {"href": f"#{each.key}"}, each.title)) for each in sections]
    return tag("nav", {"aria-label": "Contents"}, tag("ul", {}, links))


def _head(title: str) -> Markup:
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    return tag(
        "head",
        {},
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", {}, title),
        # Else browsers ask the server for one.
        tag("link", {"rel": "icon", "href": "data:,"}),
        # Nothing is escaped in a style element; this text is ours.
        Markup(f"<style>\n{style}</style>"),
    )
