"""Chunks of a kernel over threads of our own, safe in forked workers and from several threads at once."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pools: dict[int, ThreadPoolExecutor] = {}
# Threads do not survive a fork; a child makes its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def run(kernel: Callable[..., None], chunks: Iterable[tuple[Any, ...]]) -> None:
    """Call a kernel that releases the GIL once per chunk, on as many threads as torch may use, the caller's among them.

    Args:
        kernel: Writes its part of the result; parts do not overlap.
        chunks: The arguments of each call.
    """
    work = list(chunks)
    # Each takes the next chunk when it is done with one; the GIL keeps any from being taken twice.
    left = iter(work)
    others = min(torch.get_num_threads(), len(work)) - 1
    helping = [_pool(others).submit(_drain, kernel, left) for _ in range(others)]
    _drain(kernel, left)
    for helper in helping:
        # One that has not begun has nothing to do any more.
        if not helper.cancel():
            helper.result()


def _drain(kernel: Callable[..., None], chunks: Iterator[tuple[Any, ...]]) -> None:
    for arguments in chunks:
        kernel(*arguments)


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        # Of two callers that come here at once, one pool stays and serves both.
        _pools.setdefault(threads, ThreadPoolExecutor(threads, thread_name_prefix="s4aug"))
    return _pools[threads]
