"""A text for a terminal on one line, whatever names of files and values it holds."""

LONGEST = 2000  # signs; the rest is cut from the middle, for the cure is at the end


def one_line(text: str) -> str:
    """A text in which what a terminal would obey is written out, as a line break in the name of a file."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 4 :]}"
