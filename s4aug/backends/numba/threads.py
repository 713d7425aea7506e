"""Chunks of a kernel over threads of our own, safe in forked workers and from several threads at once."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pools: dict[int, ThreadPoolExecutor] = {}
# Threads do not survive a fork; a child makes its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def run(kernel: Callable[..., None], chunks: Iterable[tuple[Any, ...]]) -> None:
    """Call a kernel that releases the GIL once per chunk, on as many threads as torch may use.

    Args:
        kernel: Writes its part of the result; parts do not overlap.
        chunks: The arguments of each call.
    """
    threads = torch.get_num_threads()
    work = list(chunks)
    if threads == 1 or len(work) < 2:
        for arguments in work:
            kernel(*arguments)
        return
    for done in [_pool(threads).submit(kernel, *arguments) for arguments in work]:
        done.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        # Of two callers that come here at once, one pool stays and serves both.
        _pools.setdefault(threads, ThreadPoolExecutor(threads, thread_name_prefix="s4aug"))
    return _pools[threads]
