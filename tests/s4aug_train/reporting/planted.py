"""Values of a report that no run was needed for."""

import numpy as np

from s4aug_train.assessment import CONFIDENCE_BINS, Assessment, TileScore
from s4aug_train.boundary import LABELS
from s4aug_train.comparison import compare
from s4aug_train.reporting.gathered import Gathered, Group, Labelling, Row, Run, Scores, Unsure, Versus
from s4aug_train.reporting.pictures import heat_picture, label_picture

CLASSES = ("urban", "field", "water")
COLORS = ((200, 30, 30), (240, 220, 60), (20, 60, 220))


def assessment(seed, tiles=12, classes=CLASSES, step=100, prefix="t"):
    """Tiles of 400 px each, more of them right for a higher seed; the last class is not in the truth."""
    scores = []
    for number in range(tiles):
        count = len(classes)
        held = max(1, count - 1)
        truth = np.random.default_rng(number).multinomial(400, [1 / held] * held + [0] * (count - held))
        share, rng = 0.3 + 0.1 * seed, np.random.default_rng(100 * seed + number)
        odds = np.full((count, count), (1 - share) / count) + share * np.eye(count)
        confusion = np.array([rng.multinomial(n, row) for n, row in zip(truth, odds, strict=True)], np.int64)
        near = np.zeros((len(LABELS), 2), np.int64)
        near[:, 1] = 400 // len(LABELS)
        near[:, 0] = near[:, 1] * np.linspace(0.2, 0.9, len(LABELS))
        calibration = np.zeros((CONFIDENCE_BINS, 3))
        calibration[6:, 0] = [90, 80, 70, 60, 50, 30, 15, 3, 2]
        middles = (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS
        calibration[:, 1] = calibration[:, 0] * middles
        calibration[:, 2] = calibration[:, 0] * middles * 0.8
        scores.append(TileScore(f"{prefix}{number:02d}", confusion, near, calibration))
    return Assessment(step, classes, tuple(scores))


def scores(*args, **options):
    found = assessment(*args, **options)
    return Scores(found, found.intervals(samples=50))


def lines(seed, steps=100, method="s4net"):
    """Those of a metrics.jsonl."""
    rng = np.random.default_rng(seed)
    for step in range(10, steps + 1, 10):
        weight = 2.0 * step / steps if method == "s4net" else 0.0
        yield {
            "step": step,
            "loss": float(1.5 - step / 200 + rng.random() / 10),
            "loss_supervised": float(1.4 - step / 200),
            "loss_consistency": 0.004 if weight else 0.0,
            "lambda": weight,
            "valid_fraction": 0.66 if weight else 0.0,
            "lr": 0.01,
            "images_per_s": 30.0,
            "data_wait": 0.01,
            "memory_mib": 900.0,
            "skipped": 0,
            **({"agreement": 0.5 + step / 400} if weight else {}),
        }
        if step % 50 == 0:
            yield {"step": step, "miou": 0.2 + seed / 10 + step / 1000, "iou": {}}


def run(name="base", seed=0, method="supervised", *, scored=True, **changes):
    settings = {"data.path": "/data/tiles", "model.encoder": "resnet18", "model.weights": "none"}
    settings |= {"method.name": method, "train.steps": 100, "train.seed": 0, "data.unlabeled": None}
    values = {
        "settings": settings,
        "environment": {"torch": "2.14", "launches": ["a"], "device": "cpu"},
        "lines": tuple(lines(seed, method=method)),
        "counts": {"labeled": 60, "unlabeled": 1562, "val": 12},
        "step": 100,
        "scores": scores(seed) if scored else None,
    }
    return Run(name, **{"path": f"runs/{name}", **values, **changes})


def picture(what="a picture", seed=0):
    labels = np.random.default_rng(seed).integers(0, len(CLASSES), (16, 24), np.uint8)
    labels[:2] = 255
    return label_picture(labels, CLASSES, COLORS, what)


def versus(number, later, first):
    return Versus(number, compare(later.scores.assessment, first.scores.assessment, samples=50))


def gathered(*runs):
    """A report of runs, the last of which is the subject; two by default."""
    runs = runs or (run(), run("ours", 2, "s4net"))
    shown = tuple(picture(f"prediction of {each.name}", 1) if each.scores else None for each in runs)
    right = tuple(0.5 + index / 10 if each.scores else None for index, each in enumerate(runs))
    row = Row("t03", picture("the image"), picture("the truth"), shown, right)
    heat = heat_picture(np.linspace(0, 1, 400).reshape(20, 20), np.ones((20, 20), bool), "entropy")
    return Gathered(
        runs,
        subject=len(runs) - 1,
        versus=tuple(
            versus(number, each, runs[0])
            for number, each in enumerate(runs)
            if number and each.scores and runs[0].scores and each.scores.assessment.classes == CLASSES
        ),
        colors=dict(zip(CLASSES, COLORS, strict=True)),
        groups=tuple(Group(kind, (row,)) for kind in ("even", "best", "worst", "gained", "lost")),
        labelling=Labelling(len(runs) - 1, (Unsure("u1", 0.8, picture(), picture(), heat), Unsure("u2", 0.3)), 40),
        notes=("A note.",),
        version="0.1.0",
    )
