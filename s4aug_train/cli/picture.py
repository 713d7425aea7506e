"""Pictures in a terminal: two pixels to a character, one above the other."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

HALF = "▀"


class Picture:
    """A picture as wide as the terminal, or as it is if that is less.

    Args:
        pixels: [H, W, 3] uint8.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        height, width = self.pixels.shape[:2]
        columns = min(options.max_width, width)
        # A character is about twice as high as it is wide.
        rows = 2 * max(1, round(height * columns / width / 2))
        small = np.asarray(Image.fromarray(self.pixels).resize((columns, rows), Image.Resampling.BOX))
        for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
            for above, below in zip(upper, lower, strict=True):
                yield Segment(HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
            yield Segment.line()


def can_show(console: Console) -> bool:
    """Whether a terminal has enough colours, and the character."""
    return console.is_terminal and console.color_system in ("256", "truecolor") and console.encoding.startswith("utf")
