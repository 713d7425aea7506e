"""What the folders of runs tell without their networks: names, settings, environment, metrics, tiles by use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..config import read_settings
from ..data.split import PARTS, Split
from ..errors import CheckpointError, S4AugTrainError
from ..files import parse_json
from ..records import read_metrics
from ..run import RunFolder, find_checkpoint
from .gathered import Run


class Place(NamedTuple):
    """Where a run is.

    Args:
        name: Unlike that of the others.
        given: As it was given: a run folder or a checkpoint file.
        folder: Of the run; None for a checkpoint that is in none.
        checkpoint: Which is evaluated; None where there is none yet.
    """

    name: str
    given: Path
    folder: RunFolder | None
    checkpoint: Path | None


def places_of(paths: Sequence[Path]) -> list[Place]:
    """Where some runs are, with names as short as can be told apart.

    Raises:
        CheckpointError: One does not exist, or holds no run.
    """
    found = [_found(path) for path in paths]
    names = _names([_parts(given, folder) for given, folder, _ in found])
    return [Place(name, *each) for name, each in zip(names, found, strict=True)]


def _found(path: Path) -> tuple[Path, RunFolder | None, Path | None]:
    if path.is_file():
        home = RunFolder(path.resolve().parent.parent)
        of_run = path.resolve().parent.name == home.last.parent.name and home.config.is_file()
        return path, home if of_run else None, path
    run = RunFolder(path)
    try:
        checkpoint = find_checkpoint(path)
    except CheckpointError:
        if not run.config.is_file() and not run.metrics.is_file():
            raise
        checkpoint = None
    return path, run, checkpoint


def _parts(given: Path, folder: RunFolder | None) -> tuple[str, ...]:
    """What names are made of, the last part first; the last.pt of a run is the run."""
    parts = (given if folder is None else folder.path).resolve().parts
    if folder is not None and given.is_file() and given.name != folder.last.name:
        parts = (*parts[:-1], f"{parts[-1]}/{given.name}")
    return parts[::-1]


def _names(parts: Sequence[tuple[str, ...]]) -> list[str]:
    """One for each: as many parts as it takes to tell them apart; the same run given twice is numbered."""
    names = [each[0] for each in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        if len(set(names)) == len(set(parts)):
            break
        names = ["/".join(each[:depth][::-1]) for each in parts]
    return [
        name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def read_run(place: Place) -> tuple[Run, list[str]]:
    """A run without scores, and what of it could not be read."""
    run = Run(place.name, str(place.given))
    if place.folder is None:
        return run, [f"{place.name} is a checkpoint outside a run folder: it has no learning curves."]
    notes: list[str] = []

    def tried(read: Any, path: Path, otherwise: Any) -> Any:
        if not path.is_file():
            notes.append(f"{place.name} has no {path.name}.")
            return otherwise
        try:
            return read(path)
        except (S4AugTrainError, OSError, ValueError) as error:
            notes.append(f"{place.name}: {path.name} is left out: {error}")
            return otherwise

    folder = place.folder
    run = Run(
        place.name,
        str(place.given),
        settings=tried(read_settings, folder.config, {}),
        environment=tried(_environment, folder.environment, {}),
        lines=tried(lambda path: tuple(read_metrics(path)), folder.metrics, ()),
        counts=tried(lambda path: counts_of(Split.read(path)), folder.split, {}),
    )
    return run, notes


def _environment(path: Path) -> Mapping[str, Any]:
    content = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content


def counts_of(split: Split) -> dict[str, int]:
    """Tiles by use."""
    return {part: len(getattr(split, part)) for part in PARTS}
