"""An iterator that works on its next item while the last one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
END = object()


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; each is made in a thread while the one before is used. Errors come in their place."""
    with ThreadPoolExecutor(1) as worker:
        waiting = worker.submit(next, items, END)
        while (item := waiting.result()) is not END:
            waiting = worker.submit(next, items, END)
            yield item  # type: ignore[misc]
