"""How kernels are compiled: once for all processes where they can be kept on disk, else anew in each."""

from collections.abc import Callable
from typing import Any

from numba import njit

Decorator = Callable[[Any], Any]


def _compiled(fastmath: bool | set[str]) -> Decorator:
    def decorated(function: Any) -> Any:
        try:
            return njit(nogil=True, cache=True, fastmath=fastmath)(function)
        except RuntimeError:
            # Neither beside the source nor in the user's home can anything be written, as in a read-only container.
            return njit(nogil=True, fastmath=fastmath)(function)

    return decorated


kernel = _compiled(False)
reassociating_kernel = _compiled({"reassoc"})  # sums may be taken in any order
