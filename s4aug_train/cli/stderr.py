"""Standard error for work that outlives who reads it."""

import os
import sys
from typing import Any


class Stderr:
    """Standard error as it is now; once nobody can read it, what is written is dropped, and the work goes on.

    A terminal that was closed and a pipe whose reader has ended are such cases.
    """

    def __init__(self) -> None:
        self.file = sys.stderr

    def write(self, text: str) -> int:
        """Write, if somebody can read it."""
        try:
            return self.file.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, if somebody can read it."""
        try:
            self.file.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Everything from now on, what is left in buffers too, by whomever it is written."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
