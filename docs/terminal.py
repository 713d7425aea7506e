"""A terminal of few words: what bytes of a program leave on its screen, and screens as a moving SVG."""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby

CELL_PX = (8.4, 16.5)  # width and height of a character
MARGIN_PX = 14.0
BASELINE_PX = 12.5
INK, PAPER = "#d8dee9", "#1e2430"
COLOURS = ["#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"]
BRIGHT = ["#5c6370", "#ef7a83", "#a9d18b", "#f0cf8a", "#7fbff5", "#d48be6", "#6ccbd8", "#ffffff"]
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono',monospace"
# A control sequence with its numbers; any other escape; a control character; text.
PIECES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[@-_]|([\x00-\x1f])|([^\x00-\x1f\x1b]+)")


@dataclass(frozen=True)
class Style:
    """How a character looks."""

    ink: str = INK
    paper: str | None = None
    bold: bool = False
    italic: bool = False


@dataclass(frozen=True)
class Cell:
    """A character on the screen."""

    text: str = " "
    style: Style = Style()


Screen = tuple[tuple[Cell, ...], ...]  # rows of cells
Run = tuple[int, str, Style]  # column, text, style


class Terminal:
    """The screen of a terminal. It knows what rich writes: colours, carriage returns, erasing, moves up and down.

    Args:
        columns: Characters in a line; longer lines go on in the next.
        rows: Lines; what is above them is gone.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [[Cell()] * columns for _ in range(rows)]
        self.row, self.column, self.style = 0, 0, Style()
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.rest = ""

    def feed(self, data: bytes) -> None:
        """Take what a program wrote; characters and sequences may be cut anywhere."""
        text = self.rest + self.decoder.decode(data)
        begun = re.search(r"\x1b(\[[?\d;]*)?$", text)
        self.rest = begun.group() if begun else ""
        for piece in PIECES.finditer(text.removesuffix(self.rest)):
            numbers, command, control, words = piece.groups()
            if words:
                self._write(words)
            elif control:
                self._control(control)
            elif command:
                self._command(command, [int(number or 0) for number in numbers.lstrip("?").split(";")])

    def screen(self) -> Screen:
        """What can be seen now."""
        return tuple(tuple(line) for line in self.lines)

    def _write(self, words: str) -> None:
        for character in words:
            if self.column == self.columns:
                self._control("\n")
                self.column = 0
            self.lines[self.row][self.column] = Cell(character, self.style)
            self.column += 1

    def _control(self, control: str) -> None:
        if control == "\r":
            self.column = 0
        elif control == "\n" and self.row + 1 < self.rows:
            self.row += 1
        elif control == "\n":
            self.lines = [*self.lines[1:], [Cell()] * self.columns]

    def _command(self, command: str, numbers: list[int]) -> None:
        far = max(numbers[0], 1)
        if command == "A":
            self.row = max(self.row - far, 0)
        elif command == "B":
            self.row = min(self.row + far, self.rows - 1)
        elif command == "K":
            first = 0 if numbers[0] == 2 else self.column
            self.lines[self.row][first:] = [Cell()] * (self.columns - first)
        elif command == "m":
            self._restyle(numbers)

    def _restyle(self, numbers: list[int]) -> None:
        left = iter(numbers)
        for number in left:
            if number == 0:
                self.style = Style()
            elif number in (1, 3):
                self.style = replace(self.style, **{"bold" if number == 1 else "italic": True})
            elif number in (38, 48):
                part = "ink" if number == 38 else "paper"
                self.style = replace(self.style, **{part: _wide_colour(left)})
            elif 30 <= number <= 37:
                self.style = replace(self.style, ink=COLOURS[number - 30])
            elif 90 <= number <= 97:
                self.style = replace(self.style, ink=BRIGHT[number - 90])


def _wide_colour(numbers: Iterator[int]) -> str:
    """The colour that follows 38 or 48: of 256, or of red, green and blue."""
    if next(numbers) == 2:
        return "#{:02x}{:02x}{:02x}".format(*(next(numbers) for _ in range(3)))
    index = next(numbers)
    if index < 16:
        return (COLOURS + BRIGHT)[index]
    if index >= 232:
        return "#{0:02x}{0:02x}{0:02x}".format(8 + 10 * (index - 232))
    levels = [0, 95, 135, 175, 215, 255]
    parts = divmod((index - 16) // 6, 6)
    return "#{:02x}{:02x}{:02x}".format(*(levels[part] for part in (*parts, (index - 16) % 6)))


@dataclass(frozen=True)
class Frame:
    """A screen and how long it is shown."""

    screen: Screen
    seconds: float


def animated(frames: Sequence[Frame], title: str) -> str:
    """Frames as an SVG that plays them again and again; who wants no motion sees the last one.

    Args:
        frames: All of one size.
        title: What is shown, for those who cannot see it.
    """
    rows, columns = len(frames[0].screen), len(frames[0].screen[0])
    width, height = columns * CELL_PX[0] + 2 * MARGIN_PX, rows * CELL_PX[1] + 2 * MARGIN_PX
    lines: dict[tuple[Cell, ...], str] = {}
    shown = []
    for number, frame in enumerate(frames):
        uses = "".join(_use(lines, line, row) for row, line in enumerate(frame.screen) if any(map(_visible, line)))
        shown.append(f'<g transform="translate(0 {number * height:g})">{uses}</g>')
    drawn = "".join(f'<g id="{name}">{_line(line)}</g>' for line, name in lines.items())
    size = f'width="{width:g}" height="{height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {size} role="img">'
        f"<title>{escape(title)}</title><style>{_css(frames, height)}</style><defs>{drawn}</defs>"
        f'<rect {size} rx="8" fill="{PAPER}"/><g class="reel" fill="{INK}">{"".join(shown)}</g></svg>\n'
    )


def _css(frames: Sequence[Frame], height: float) -> str:
    whole, begun, stops = sum(frame.seconds for frame in frames), 0.0, []
    for number, frame in enumerate(frames):
        stops.append(f"{100 * begun / whole:.3f}%{{transform:translateY({-number * height:g}px)}}")
        begun += frame.seconds
    last = f"translateY({-(len(frames) - 1) * height:g}px)"
    return (
        f"text{{font:14px {FONT};white-space:pre}}.b{{font-weight:bold}}.i{{font-style:italic}}"
        f"@keyframes reel{{{''.join(stops)}to{{transform:{last}}}}}"
        f".reel{{animation:reel {whole:.1f}s step-end infinite}}"
        f"@media (prefers-reduced-motion:reduce){{.reel{{animation:none;transform:{last}}}}}"
    )


def _visible(cell: Cell) -> bool:
    return cell.text != " " or cell.style.paper is not None


def _use(lines: dict[tuple[Cell, ...], str], line: tuple[Cell, ...], row: int) -> str:
    """A reference to a line, which is drawn once however often it is shown."""
    name = lines.setdefault(line, f"l{len(lines)}")
    return f'<use href="#{name}" y="{row * CELL_PX[1]:g}"/>'


def _runs(line: tuple[Cell, ...]) -> Iterator[Run]:
    column = 0
    for style, cells in groupby(line, lambda cell: cell.style):
        text = "".join(cell.text for cell in cells)
        yield column, text, style
        column += len(text)


def _line(line: tuple[Cell, ...]) -> str:
    return "".join(_text(*run) for run in _runs(line))


def _text(column: int, text: str, style: Style) -> str:
    """A run of one style; its width is said, so that columns meet whatever the font."""
    parts = []
    left = MARGIN_PX + column * CELL_PX[0]
    if style.paper:
        box = f'width="{len(text) * CELL_PX[0]:g}" height="{CELL_PX[1]:g}"'
        parts.append(f'<rect x="{left:g}" y="{MARGIN_PX:g}" {box} fill="{style.paper}"/>')
    words = text.strip()
    if words:
        left += (len(text) - len(text.lstrip())) * CELL_PX[0]
        names = " ".join(name for name, worn in (("b", style.bold), ("i", style.italic)) if worn)
        look = (f' class="{names}"' if names else "") + (f' fill="{style.ink}"' if style.ink != INK else "")
        place = f'x="{left:g}" y="{MARGIN_PX + BASELINE_PX:g}" textLength="{len(words) * CELL_PX[0]:g}"'
        parts.append(f"<text {place}{look}>{escape(words, quote=False)}</text>")
    return "".join(parts)
