"""The pictures of docs/design.md as SVG: the floors, from the table that a test holds, and the way of the data."""

import runpy
from pathlib import Path

from sketch import BLUE, GREY, INK, ORANGE, PALE, PURPLE, Sketch

# The test's own table: what it allows is what is drawn.
FLOORS = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "test_imports.py"))["FLOORS"]
NAMES_PER_LINE = {"s4aug": 2, "s4aug_train": 4}

# What goes from stage to stage: a name, where it is defined ("" for what is no class of ours), and what it is.
WAY = {
    "Files": [
        ("folder", "", "images, masks, classes"),
        ("TileFile", "s4aug_train.data.layouts", "an image, its mask"),
        ("Tile", "s4aug_train.data.cache", "decoded once, mapped"),
        ("Dataset", "s4aug_train.data.dataset", "tiles by their use"),
    ],
    "A step": [
        ("Crops", "s4aug_train.data.pool", "as they lie in tiles"),
        ("Batch", "s4aug_train.methods", "crops, seeds, lambda"),
        ("View", "s4aug", "moved pixels, what is real"),
        ("logits", "", "of your network"),
        ("Warped", "s4aug", "predictions undone"),
        ("ConsistencyTerms", "s4aug", "sum and count"),
        ("Losses", "s4aug_train.methods", "what is minimised"),
        ("Outcome", "s4aug_train.engine.state", "told, or skipped"),
    ],
    "Told": [
        ("StepRecord", "s4aug_train.records", "means of some steps"),
        ("metrics.jsonl", "", "tb/, log.txt, terminal"),
    ],
    "Kept": [
        ("Checkpoint", "s4aug_train.engine", "all that going on needs"),
        ("Segmenter", "s4aug_train.segmenter", "what predicts"),
        ("Piece", "s4aug_train.inference", "probabilities, some rows"),
        ("map", "", "a GeoTIFF on its grid"),
    ],
    "Judged": [
        ("Assessment", "s4aug_train.assessment", "of pieces, tile by tile"),
        ("Comparison", "s4aug_train.comparison", "of two, paired"),
        ("Gathered", "s4aug_train.reporting", "all that a report shows"),
        ("report.html", "", "one page, loads nothing"),
    ],
}
COLOURS = dict(zip(WAY, (BLUE, PURPLE, ORANGE, INK, BLUE), strict=True))


def floors_diagram() -> str:
    """Both packages as houses side by side, the lowest floor at the bottom; a room of several files ends in a slash."""
    line, floor_gap, width, top = 19, 7, {"s4aug": 250, "s4aug_train": 410}, 44
    heights = {
        package: [line * len(_rows(package, rooms)) + 9 for rooms in floors] for package, floors in FLOORS.items()
    }
    ground = top + max(sum(each) + floor_gap * len(each) for each in heights.values())
    sketch, left = Sketch(sum(width.values()) + 70, ground + 40), 20
    for package, floors in FLOORS.items():
        sketch.text((left + width[package] / 2, 28), package, 16)
        bottom = ground
        for number, (rooms, height) in enumerate(zip(floors, heights[package], strict=True)):
            sketch.box(left + 26, bottom - height, (width[package] - 26, height), PALE)
            sketch.text((left + 18, bottom - height / 2 + 4), str(number), 11, GREY, "end")
            for i, names in enumerate(_rows(package, rooms)):
                colour = BLUE if names.endswith("/") else INK
                sketch.text((left + 36, bottom - height + line * (i + 1) - 1), names, 13, colour, "start")
            bottom -= height + floor_gap
        left += width[package] + 30
    told = "A file imports from floors below its own, a file of a room (blue) from it too; s4aug_train from s4aug."
    sketch.text((20, ground + 24), told, 12, INK, "start")
    return sketch.svg()


def _rows(package: str, rooms: set[str]) -> list[str]:
    """The names of a floor by lines: each room on one of its own, files several to a line."""
    files = sorted(room for room in rooms if not room.endswith("."))
    count = NAMES_PER_LINE[package]
    lines = [" · ".join(files[i : i + count]) for i in range(0, len(files), count)]
    return [*(f"{room[:-1]}/" for room in sorted(rooms - set(files))), *lines]


def way_diagram() -> str:
    """The values between the stages, in the order in which they are made."""
    per_row, side, gap, indent = 4, (164.0, 58.0), 22.0, 70.0
    rows = [(stage, steps[i : i + per_row]) for stage, steps in WAY.items() for i in range(0, len(steps), per_row)]
    sketch = Sketch(indent + per_row * (side[0] + gap), 20 + len(rows) * (side[1] + gap + 8))
    for j, (stage, steps) in enumerate(rows):
        top = 16 + j * (side[1] + gap + 8)
        if steps == WAY[stage][:per_row]:
            sketch.text((8, top + 34), stage, 14, COLOURS[stage], "start")
        for i, (name, home, what) in enumerate(steps):
            left = indent + i * (side[0] + gap)
            sketch.box(left, top, side, PALE if home else "white", COLOURS[stage])
            sketch.text((left + side[0] / 2, top + 18), name, 14, COLOURS[stage])
            sketch.text((left + side[0] / 2, top + 34), what, 11)
            sketch.text((left + side[0] / 2, top + 50), home.removeprefix("s4aug_train."), 10, GREY)
            if i:
                sketch.line((left - gap + 2, top + side[1] / 2), (left - 2, top + side[1] / 2), GREY, arrow=True)
    return sketch.svg()


HOUSE = {"floors.svg": floors_diagram, "way.svg": way_diagram}
