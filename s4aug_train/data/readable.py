"""Tiles one after the other, where some of them may not be readable."""

from collections.abc import Iterable, Iterator, Sequence

from ..errors import DataError, UnreadableError
from .cache import OnUnreadable, Tile


def readable(
    tiles: Sequence[Tile], on_unreadable: OnUnreadable | None, numbers: Iterable[int] | None = None
) -> Iterator[Tile]:
    """Tiles in their order.

    Args:
        tiles: Read when they are asked for, or before.
        on_unreadable: Told of each tile that cannot be read, which is left out; None: it is an error.
        numbers: Which of the tiles; all by default.

    Raises:
        UnreadableError: A tile cannot be read, and nobody is to be told instead.
    """
    # By number: an iterator would end at its first error.
    for number in range(len(tiles)) if numbers is None else numbers:
        try:
            tile = tiles[number]
        except UnreadableError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error.name, error.why)
        else:
            yield tile


def first_readable(tiles: Sequence[Tile], on_unreadable: OnUnreadable | None) -> Tile:
    """The first tile that can be read.

    Raises:
        DataError: None can be; the reason of one is told.
    """
    whys: list[str] = []

    def note(name: str, why: str) -> None:
        whys.append(why)
        if on_unreadable is not None:
            on_unreadable(name, why)

    first = next(readable(tiles, None if on_unreadable is None else note), None)
    if first is None:
        raise none_readable(whys[0])
    return first


def none_readable(why: str) -> DataError:
    """What to tell where every tile is left out."""
    return DataError(f"none of the tiles can be read; one of them: {why}")
