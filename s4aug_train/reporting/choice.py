"""Which validation tiles a report shows."""

from collections.abc import Mapping

from ..assessment import Assessment

# Why tiles are shown, and how many at most, in the order in which they are shown.
KINDS = {"even": 4, "best": 3, "worst": 3, "gained": 2, "lost": 2}


def accuracies(assessment: Assessment) -> dict[str, float]:
    """The share of labelled pixels that are predicted right, of each tile that has any."""
    counts = {tile.id: (int(tile.confusion.trace()), int(tile.confusion.sum())) for tile in assessment.tiles}
    return {tile: right / all_ for tile, (right, all_) in counts.items() if all_}


def chosen_tiles(
    subject: Mapping[str, float], baseline: Mapping[str, float] | None
) -> dict[str, list[str]]:  # kind -> ids
    """Ids of tiles by why they are shown, each once; a kind without tiles is left out.

    The best and the worst are chosen first, then of the rest those that gained and lost most, then some from all over
    what is left of the ranking.

    Args:
        subject: Accuracy of tiles by the run that is looked at.
        baseline: The same by the first run; None where it is the same run, or has other classes.
    """
    ranked = sorted(subject, key=lambda tile: (-subject[tile], tile))
    count, half = len(ranked), len(ranked) // 2
    best, worst = ranked[: min(KINDS["best"], count - half)], ranked[::-1][: min(KINDS["worst"], half)]
    chosen = {"best": best, "worst": worst}
    if baseline is not None:
        rest = ranked[len(best) : count - len(worst)]
        gains = {tile: subject[tile] - baseline[tile] for tile in rest if tile in baseline}
        order = sorted(gains, key=lambda tile: (-gains[tile], tile))
        chosen["gained"] = [tile for tile in order if gains[tile] > 0][: KINDS["gained"]]
        chosen["lost"] = [tile for tile in order[::-1] if gains[tile] < 0][: KINDS["lost"]]
    taken = {tile for tiles in chosen.values() for tile in tiles}
    chosen["even"] = _evenly([tile for tile in ranked if tile not in taken], KINDS["even"])
    return {kind: chosen[kind] for kind in KINDS if chosen.get(kind)}


def _evenly(ranked: list[str], count: int) -> list[str]:
    """Tiles from all over a ranking: the middle of each of so many equal parts."""
    count = min(count, len(ranked))
    return [ranked[(2 * part + 1) * len(ranked) // (2 * count)] for part in range(count)]
