"""What an evaluation is too small for, in plain sentences."""

from collections.abc import Iterator, Sequence

from ..assessment import Assessment
from .gathered import Run
from .scores import scored
from .words import counted, listed

# Below these a report says so. Drawn many times from a known distribution of tiles, "95 %" intervals of 10 tiles held
# the truth in 90 % of the draws, those of 3 tiles in 72 %.
FEW_TILES = 10
FEW_WITH_CLASS = 3


def cautions(runs: Sequence[Run]) -> Iterator[str]:
    """A sentence for each thing that evaluations are too small for; runs of which the same is true share it."""
    names: dict[str, list[str]] = {}
    for _, run, scores in scored(runs):
        for sentence in _sentences(scores.assessment):
            names.setdefault(sentence, []).append(run.name)
    for sentence, concerned in names.items():
        yield f"{listed(concerned)}: {sentence}" if len(runs) > 1 else f"{sentence[:1].upper()}{sentence[1:]}"


def _sentences(assessment: Assessment) -> Iterator[str]:
    count = len(assessment.tiles)
    if count < FEW_TILES:
        narrow = ", and intervals are too narrow" if count > 1 else ""
        yield (
            f"the evaluation rests on {counted(count, 'tile')}, fewer than {FEW_TILES}: other tiles may give quite "
            f"other figures{narrow}."
        )
    holding = sum((tile.confusion.any(1).astype(int) for tile in assessment.tiles), [0] * len(assessment.classes))
    rare = [
        f"{name} ({counted(int(tiles), 'tile')})"
        for name, tiles in zip(assessment.classes, holding, strict=True)
        if 0 < tiles < FEW_WITH_CLASS
    ]
    if rare:
        yield (
            f"fewer than {FEW_WITH_CLASS} tiles hold {listed(rare)}: figures of "
            f"{'these classes' if len(rare) > 1 else 'this class'} say little of other places."
        )
