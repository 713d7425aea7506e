"""Signals that ask to end: noted, for what goes on to be saved first."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal, torchrun and a scheduler may each pass on what is one signal to the user.
ECHO_S = 2.0


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP are noted, for the loop to stop at the next step; a second one, later, ends at once.

    SIGHUP (the terminal was closed) is left alone where it is ignored, as under nohup, or does not exist (Windows).
    """
    seen: list[int] = []
    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not seen:
            first = time.monotonic()
            seen.append(number)
        elif time.monotonic() - first > ECHO_S:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
