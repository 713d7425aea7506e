"""Gathers what a report shows of runs, and writes it as one page."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s4aug import __version__

from .assessment import Assessment
from .comparison import compare
from .data.dataset import Progress
from .engine import Checkpoint
from .errors import CheckpointError, ConfigError, DataError
from .evaluation import assess
from .examination import settled, tiles_of
from .files import write_text
from .launch import here
from .preparation import named
from .records import LeftOut, Note
from .reporting import Gathered, page
from .reporting.folders import Place, counts_of, places_of, read_run
from .reporting.gathered import Run, Scores, Versus
from .run import RunFolder
from .showing import Evaluated, Wanted, shown_groups, shown_unlabelled


def report(
    paths: str | Path | Sequence[str | Path],
    settings: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    split: str = "val",
    unlabelled: int = 100,
    title: str | None = None,
    on_note: Callable[[Note], None] = lambda note: None,
    on_progress: Progress | None = None,
) -> Path:
    """Write runs as one HTML page that loads nothing: results, pictures, curves, settings.

    A run that cannot be evaluated is shown without scores, and a note says why.

    Args:
        paths: Run folders or checkpoint files; the first is what the others are compared with.
        settings: Settings (`group.field`) that differ from the runs', for example `data.path`.
        out: File to write; by default report.html in the folder of a single run.
        split: As in `evaluate`.
        unlabelled: How many unlabelled tiles are looked at, to find those that are worth a label.
        title: Of the page; by default what the runs are called.
        on_note: Told what was left out; the page says it too.
        on_progress: As in `fit`.

    Returns:
        The file.

    Raises:
        CheckpointError: A path holds no run, or a file is no checkpoint.
        ConfigError: A setting has no say in it, `out` is missing or a folder, the title is empty, or there are several
            processes.
        DataError: The data or the split that were asked for do not go with a run.
        S4AugTrainError: The file cannot be written.
    """
    if here().count > 1:
        raise ConfigError("a report is made by one process; leave out torchrun")
    if title is not None and not title.strip():
        raise ConfigError("--title is empty; leave it out for a title made of the runs' names")
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    target = _target(given, None if out is None else Path(out))
    found = gather(given, Wanted(dict(settings or {}), split, unlabelled, on_progress))
    for note in found.notes:
        on_note(Note(note))
    write_text(target, page(replace(found, title=title or "")))
    return target


def _target(paths: Sequence[Path], out: Path | None) -> Path:
    """The file to write; a wrong one is told before the work."""
    if not paths:
        raise ConfigError("a report needs at least one run; give its folder")
    if out is None:
        if len(paths) > 1 or paths[0].is_file():
            raise ConfigError("a report of several runs, or of a checkpoint file, needs --out FILE.html")
        out = RunFolder(paths[0]).report
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; give a file, for example {out / 'report.html'}")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write --out {out}: {folder} is no folder that can be written to; choose another")
    return out


def gather(paths: Sequence[Path], wanted: Wanted) -> Gathered:
    """All that a report shows of some runs; else as `report`."""
    places, notes = places_of(paths), list[str]()
    found = [_run(place, wanted, notes) for place in places]
    runs = [run for run, _ in found]
    evaluated = {number: each for number, (_, each) in enumerate(found) if each is not None}
    whole = Gathered(tuple(runs), versus=tuple(_versus(runs)), version=__version__)
    if evaluated:
        subject = max(evaluated)
        last = evaluated[subject]
        whole = replace(
            whole,
            subject=subject,
            colors=dict(zip(last.classes, last.colors, strict=True)),
            groups=tuple(shown_groups(runs, evaluated, subject, wanted, notes)),
            labelling=shown_unlabelled(last, subject, wanted, notes),
        )
    return replace(whole, notes=tuple(notes))


def _run(place: Place, wanted: Wanted, notes: list[str]) -> tuple[Run, Evaluated | None]:
    """What a run tells, and its scores where its tiles are there."""
    run, told = read_run(place)
    notes += told
    if place.checkpoint is None:
        return replace(run, missing="It has no checkpoint yet."), None
    try:
        checkpoint = Checkpoint.read(place.checkpoint)
        settings = run.settings or checkpoint.config.flat()
        run = replace(run, step=checkpoint.step, settings=settings, counts=run.counts or counts_of(checkpoint.split))
        evaluated, scores = _evaluate(run.name, place.checkpoint, checkpoint, wanted, notes)
    except (DataError, CheckpointError) as error:
        # What was asked for by name is not passed over; nor is a file of which there is nothing else to show.
        if place.folder is None or "data.path" in wanted.settings or wanted.split != "val":
            raise
        notes.append(f"{run.name} is shown without an evaluation: {error}")
        return replace(run, missing="Not evaluated; the reason is below."), None
    return replace(run, scores=scores), evaluated


def _evaluate(
    name: str, file: Path, checkpoint: Checkpoint, wanted: Wanted, notes: list[str]
) -> tuple[Evaluated, Scores]:
    config = settled(checkpoint.config, wanted.settings)
    left_out = LeftOut({})
    on_unreadable = left_out.add if config.data.unreadable == "skip" else None
    tiles = tiles_of([(file, checkpoint)], config, wanted.split, None, on_unreadable, wanted.on_progress)
    classes, own = checkpoint.classes, wanted.settings.get("model.factory")
    by_id = {tile.id: tile for tile in tiles}
    unlabelled, going = checkpoint.split.unlabeled, checkpoint.step < checkpoint.config.train.steps
    held = checkpoint if going else None
    evaluated = Evaluated(file, config, classes.names, classes.colors, by_id, unlabelled, own, held)
    found = assess(
        evaluated.segmenter(checkpoint),
        tiles,
        evaluated.windows,
        step=checkpoint.step,
        on_unreadable=on_unreadable,
        on_progress=named(wanted.on_progress, f"evaluating {name}"),
    )
    assert found is not None
    notes += [f"{name}: {note.text}" for note in left_out.notes()]
    return evaluated, Scores(found, found.intervals())


def _versus(runs: Sequence[Run]) -> Iterator[Versus]:
    """Each later run beside the first, on the tiles that both hold out."""
    for number, run in enumerate(runs[1:], 1):
        if runs[0].scores is not None and run.scores is not None:
            yield _compared(number, run.scores.assessment, runs[0].scores.assessment)


def _compared(number: int, later: Assessment, first: Assessment) -> Versus:
    both = {tile.id for tile in first.tiles} & {tile.id for tile in later.tiles}
    if first.classes != later.classes:
        return Versus(number, None, "their classes differ")
    if not both:
        return Versus(number, None, "no tile is held out in both")
    part = len(both) < max(len(first.tiles), len(later.tiles))
    why = f"of the {len(later.tiles)} and {len(first.tiles)} that they hold out" if part else ""
    try:
        return Versus(number, compare(_only(later, both), _only(first, both)), why)
    except DataError as error:
        return Versus(number, None, str(error))


def _only(assessment: Assessment, tiles: set[str]) -> Assessment:
    return replace(assessment, tiles=tuple(tile for tile in assessment.tiles if tile.id in tiles))
