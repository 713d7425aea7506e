"""HTML and SVG as values: whatever is text is escaped, whoever it comes from."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VOID = frozenset({"br", "img", "link", "meta"})
# No character of a text: controls, halves of surrogate pairs (names of files that are not UTF-8), and marks that turn
# the reading direction of what follows.
UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Markup:
    """What is HTML already."""

    source: str


Content = Markup | str | Sequence["Content"] | None
Attributes = Mapping[str, str | float]


def tag(name: str, attributes: Attributes, *content: Content) -> Markup:
    """An element.

    Args:
        name: Of the element.
        attributes: By name; their values are escaped.
        content: Texts, which are escaped, markup, which is not, and sequences of both; None is left out.
    """
    opened = "".join(f' {key}="{escaped(str(value))}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{opened}>")
    return Markup(f"<{name}{opened}>{joined(*content).source}</{name}>")


def joined(*content: Content) -> Markup:
    """One after the other."""
    return Markup("".join(_source(part) for part in content))


def escaped(text: str) -> str:
    """A text that is no markup, in content and in attributes."""
    return html.escape(UNSHOWN.sub("\ufffd", text))


def _source(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Markup):
        return content.source
    if isinstance(content, str):
        return escaped(content)
    return "".join(_source(part) for part in content)
