"""Standard error for work that outlives who reads it."""

import errno
import os
import sys
from typing import Any

# A pipe whose reader has ended; a terminal that was closed.
GONE = (errno.EPIPE, errno.EIO)


class Stderr:
    """Standard error as it is now; what nobody can read is dropped, and the work goes on."""

    def __init__(self) -> None:
        self.file = sys.stderr

    def write(self, text: str) -> int:
        """Write, if somebody can read it."""
        try:
            return self.file.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Flush, if somebody can read it."""
        try:
            self.file.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Drop this text; if nobody reads any more, all from now on, what is left in buffers too, whoever writes it."""
        if error.errno not in GONE:
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
