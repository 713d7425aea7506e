"""A drawing in SVG, of few kinds of elements."""

import math
from collections.abc import Sequence
from html import escape

INK, GREY, PALE, BLUE, ORANGE, PURPLE = "#333333", "#999999", "#f2f2f2", "#1f6fb4", "#c8501e", "#5a286e"

Point = tuple[float, float]


class Sketch:
    """SVG elements on white, in px."""

    def __init__(self, width: float, height: float) -> None:
        self.head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        self.head += f'width="{width:g}" height="{height:g}" font-family="sans-serif">'
        self.parts = [f'<rect width="{width:g}" height="{height:g}" fill="white"/>']

    def box(
        self, left: float, top: float, side: Point, fill: str = "none", stroke: str = GREY, opacity: float = 1
    ) -> None:
        """A rectangle of `side` (width, height)."""
        place = f'x="{left:.1f}" y="{top:.1f}" width="{side[0]:.1f}" height="{side[1]:.1f}"'
        self.parts.append(f'<rect {place} fill="{fill}" fill-opacity="{opacity:.3f}" stroke="{stroke}"/>')

    def shape(self, points: Sequence[Point], fill: str = "none", stroke: str = INK, dashed: bool = False) -> None:
        """A closed polygon."""
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = ' stroke-dasharray="5 3"' if dashed else ""
        self.parts.append(f'<polygon points="{listed}" fill="{fill}" stroke="{stroke}" stroke-width="1.5"{style}/>')

    def line(self, start: Point, end: Point, stroke: str = INK, arrow: bool = False) -> None:
        """A straight line, with an arrow's head at its end."""
        ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
        self.parts.append(f'<line {ends} stroke="{stroke}" stroke-width="1.5"/>')
        if arrow:
            length = math.dist(start, end)
            x, y = (9 * (to - since) / length for since, to in zip(start, end, strict=True))
            back = (end[0] - x, end[1] - y)
            wings = [(back[0] - side * y, back[1] + side * x) for side in (0.4, -0.4)]
            self.shape([end, *wings], stroke, stroke)

    def dot(self, at: Point, colour: str = INK, radius: float = 3.5) -> None:
        """A filled circle."""
        self.parts.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" fill="{colour}"/>')

    def cross(self, at: Point, colour: str = ORANGE, arm: float = 6) -> None:
        """An upright cross."""
        for x, y in ((arm, 0.0), (0.0, arm)):
            self.line((at[0] - x, at[1] - y), (at[0] + x, at[1] + y), colour)

    def text(self, at: Point, words: str, size: float = 13, colour: str = INK, anchor: str = "middle") -> None:
        """One line of text; `at` is on its baseline."""
        style = f'font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"'
        self.parts.append(f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" {style}>{escape(words)}</text>')

    def svg(self) -> str:
        """The file."""
        return "\n".join([self.head, *self.parts, "</svg>"]) + "\n"
