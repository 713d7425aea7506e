"""Rows of results: made in float32, in place where the result is that too, else in a spare row and then put there."""

from numba import njit, types
from numba.extending import overload

from .lanes import store_rounded


def row_to_fill(out, at, columns, spare):
    """Where to make a row of `columns` that begins at `at` in the flat `out` and lies side by side there."""
    raise NotImplementedError


@overload(row_to_fill)
def _(out, at, columns, spare):
    if out.dtype == types.float32:
        return lambda out, at, columns, spare: out[at : at + columns]
    return lambda out, at, columns, spare: spare


@njit(nogil=True, cache=True)
def put_row(line, out, at, step):
    """Put a row into the flat `out`, pixels `step` apart, unless it was made there."""
    if step == 1:
        if not _is_made_there(out):
            for x in range(len(line)):
                store_rounded(out, at + x, line[x])
        return
    for x in range(len(line)):
        store_rounded(out, at + x * step, line[x])


def _is_made_there(out):
    raise NotImplementedError


@overload(_is_made_there)
def _(out):
    there = out.dtype == types.float32
    return lambda out: there
