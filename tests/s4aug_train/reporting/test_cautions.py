"""An evaluation of few tiles says that it is one."""

from dataclasses import replace

import pytest

from s4aug_train.reporting.cautions import cautions
from tests.s4aug_train.reporting import planted

FEW = (
    "The evaluation rests on 9 tiles, fewer than 10: other tiles may give quite other figures, and intervals are too "
    "narrow."
)


def of(tiles, name="base", **held):
    """A run of so many tiles, of which only the first few hold a class."""
    scores = planted.scores(0, tiles=tiles)
    parts = [replace(tile, confusion=tile.confusion.copy()) for tile in scores.assessment.tiles]
    for label, count in held.items():
        for tile in parts[count:]:
            tile.confusion[planted.CLASSES.index(label)] = 0
    return planted.run(name, scores=replace(scores, assessment=replace(scores.assessment, tiles=tuple(parts))))


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (of(10), []),
        (of(9), [FEW]),
        (
            of(1, urban=0, field=0),
            ["The evaluation rests on 1 tile, fewer than 10: other tiles may give quite other figures."],
        ),
        (of(10, field=3), []),
        (
            of(10, field=2),
            ["Fewer than 3 tiles hold field (2 tiles): figures of this class say little of other places."],
        ),
        (
            of(10, field=1, urban=2),
            [
                "Fewer than 3 tiles hold urban (2 tiles) and field (1 tile): figures of these classes say little of "
                "other places."
            ],
        ),
        (of(10, field=0), []),
        (planted.run(scored=False), []),
    ],
)
def test_few_tiles_are_told_and_classes_in_few_of_them(run, told):
    assert list(cautions([run])) == told


def test_runs_of_the_same_few_tiles_are_told_together():
    sentence = f"base and ours: t{FEW[1:]}"
    assert list(cautions([of(9), of(9, "ours"), of(12, "third")])) == [sentence]
