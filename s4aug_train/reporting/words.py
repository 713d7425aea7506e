"""Numbers as people read them."""

import math

ABSENT = "\u2013"  # where there is no value
ELLIPSIS = "\u2026"
MINUS = "\u2212"
NARROW = "\u202f"  # a thin space that no line breaks at


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1, in percent; a dash where there is none."""
    return ABSENT if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}{NARROW}%"


def points(value: float, digits: int = 1) -> str:
    """A difference of shares, in percentage points, with its sign."""
    shown = f"{abs(100 * value):.{digits}f}"
    return shown if float(shown) == 0 else f"{'+' if value > 0 else MINUS}{shown}"


def p_text(value: float) -> str:
    """A p-value."""
    return f"p{NARROW}<{NARROW}0.001" if value < 0.001 else f"p{NARROW}={NARROW}{value:.3f}"


def whole(value: int) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,}".replace(",", NARROW)


def number(value: float | None) -> str:
    """A number with four digits that count; a dash where there is none."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.4g}".replace("-", MINUS)


def counted(value: int, noun: str) -> str:
    """So many of something that takes an s."""
    return f"{whole(value)} {noun}{'' if value == 1 else 's'}"


def shortened(text: str, limit: int) -> str:
    """A text that is cut in its middle, as names differ most at their end."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}{ELLIPSIS}{text[len(text) - tail :]}"


def tile_name(tile: str, noun: str = "tile") -> str:
    """A tile as it is spoken of: that which is called Tile 3 is no tile Tile 3."""
    return tile if tile.casefold().startswith("tile") else f"{noun} {tile}"


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Names with commas and an and."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
