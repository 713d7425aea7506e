"""Evaluations of finished runs, from their folders into one table of numbers (CSV) and back."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s4aug_train.records import read_metrics


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of a run on all validation tiles.

    Args:
        arm: Name of the `Arm`.
        seed: Of the run.
        step: After which it was made.
        miou: In %.
        iou: In %, by class.
    """

    arm: str
    seed: int
    step: int
    miou: float
    iou: dict[str, float]


def of_runs(runs: Path, names: Sequence[str], steps: int) -> list[Evaluated]:
    """Of all runs that are finished, by arm, seed and step.

    Args:
        runs: Holds a folder `<arm>-<seed>` for each run.
        names: Of the arms, in their order.
        steps: Of a finished run.
    """
    found = []
    for name in names:
        seeds = [folder.name.removeprefix(f"{name}-") for folder in runs.glob(f"{name}-*")]
        for seed in sorted(int(seed) for seed in seeds if seed.isdecimal()):
            made = of_run(runs / f"{name}-{seed}", name, seed)
            found += made if made and made[-1].step == steps else []
    return found


def of_run(folder: Path, name: str, seed: int) -> list[Evaluated]:
    """Of one run, as far as it has come."""
    records = folder / "metrics.jsonl"
    lines = read_metrics(records) if records.exists() else ()
    return [
        Evaluated(name, seed, line["step"], 100 * line["miou"], {key: 100 * iou for key, iou in line["iou"].items()})
        for line in lines
        if "miou" in line
    ]


def to_csv(evaluated: Sequence[Evaluated]) -> str:
    """One line each; unrounded to a thousandth of a percent."""
    buffer = io.StringIO()
    classes = list(evaluated[0].iou)
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["arm", "seed", "step", "miou", *classes])
    for one in evaluated:
        writer.writerow([one.arm, one.seed, one.step, *(f"{value:.3f}" for value in (one.miou, *one.iou.values()))])
    return buffer.getvalue()


def from_csv(content: str) -> list[Evaluated]:
    """As written by `to_csv`."""
    rows = list(csv.DictReader(io.StringIO(content)))
    return [
        Evaluated(
            row["arm"],
            int(row["seed"]),
            int(row["step"]),
            float(row["miou"]),
            {name: float(value) for name, value in list(row.items())[4:]},
        )
        for row in rows
    ]
