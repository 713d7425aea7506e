"""Which tiles are shown follows from their accuracies, by a definition that a loop can check."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.assessment import CONFIDENCE_BINS, Assessment, TileScore
from s4aug_train.boundary import LABELS
from s4aug_train.reporting.choice import KINDS, accuracies, chosen_tiles

SHARES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 1), min_size=1, max_size=30)


@given(SHARES, st.randoms())
def test_the_best_are_better_than_all_others_and_the_worst_worse(subject, random):
    baseline = {tile: random.random() for tile in subject}
    chosen = chosen_tiles(subject, baseline)
    assert all(1 <= len(tiles) <= KINDS[kind] and len(set(tiles)) == len(tiles) for kind, tiles in chosen.items())
    rest = set(subject) - set(chosen["best"])
    assert all(subject[tile] >= subject[other] for tile in chosen["best"] for other in rest)
    worst = chosen.get("worst", [])
    assert all(subject[tile] <= subject[other] for tile in worst for other in set(subject) - set(worst))
    assert not {*chosen["best"]} & {*worst}
    others = set(subject) - {*chosen["best"], *worst}
    gains = {tile: subject[tile] - baseline[tile] for tile in others}
    most = chosen.get("gained", [])
    assert all(gains[tile] > 0 for tile in most)
    assert all(gains[tile] >= gains[other] for tile in most for other in others - set(most))
    least = chosen.get("lost", [])
    assert all(gains[tile] < 0 for tile in least)
    assert all(gains[tile] <= gains[other] for tile in least for other in others - set(least))


@given(SHARES, st.randoms())
@settings(max_examples=30)
def test_no_tile_is_shown_twice_and_as_many_as_there_is_room_for(subject, random):
    chosen = chosen_tiles(subject, {tile: random.random() for tile in subject})
    shown = [tile for tiles in chosen.values() for tile in tiles]
    assert len(set(shown)) == len(shown)
    assert list(chosen) == [kind for kind in KINDS if kind in chosen]
    left = len(subject) - len([tile for kind, tiles in chosen.items() if kind != "even" for tile in tiles])
    assert len(chosen.get("even", [])) == min(KINDS["even"], left)


def test_some_come_from_all_over_the_ranking_and_one_tile_is_enough():
    subject = {f"{i:02d}": i / 40 for i in range(40)}
    assert chosen_tiles(subject, None)["even"] == ["32", "24", "15", "07"]
    assert chosen_tiles({"a": 0.5}, None) == {"best": ["a"]}
    assert chosen_tiles({}, {}) == {}
    assert "gained" not in chosen_tiles(subject, subject)


def test_accuracy_is_the_share_on_the_diagonal_and_tiles_without_labels_have_none():
    empty = np.zeros((len(LABELS), 2), np.int64), np.zeros((CONFIDENCE_BINS, 3))
    tiles = (
        TileScore("a", np.array([[3, 1], [0, 4]]), *empty),
        TileScore("b", np.zeros((2, 2), np.int64), *empty),
    )
    assert accuracies(Assessment(0, ("x", "y"), tiles)) == {"a": 7 / 8}
