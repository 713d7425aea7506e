"""What is told in a line stays one, whatever the names of files hold."""


def one_line(text: str) -> str:
    """A text whose line breaks, controls, turns of the reading direction and bytes that are no text are escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
