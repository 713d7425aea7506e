"""Rows of results: made in float32, in place where the result is that too, else in a spare row and then put there."""

from numba import types
from numba.extending import overload

from .kernel import kernel
from .lanes import store_rounded


def row_to_fill(out, at, step, spare):
    """Where to make a row that begins at `at` in the flat `out`, pixels `step` apart."""
    raise NotImplementedError


@overload(row_to_fill)
def _(out, at, step, spare):
    if out.dtype == types.float32:
        return lambda out, at, step, spare: out[at : at + len(spare)] if step == 1 else spare
    return lambda out, at, step, spare: spare


@kernel
def put_row(line, out, at, step):
    """Put a row into the flat `out`, pixels `step` apart."""
    if step == 1:
        for x in range(len(line)):
            store_rounded(out, at + x, line[x])
        return
    for x in range(len(line)):
        store_rounded(out, at + x * step, line[x])


def is_filled_there(out, step):
    """Whether rows are made in place, and so need not be put."""
    raise NotImplementedError


@overload(is_filled_there)
def _(out, step):
    if out.dtype == types.float32:
        return lambda out, step: step == 1
    return lambda out, step: False
