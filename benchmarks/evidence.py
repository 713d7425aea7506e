"""What S4Net is worth on real tiles: the runs' commands, and of their records a table and a picture.

python -m benchmarks.evidence halve deepglobe512 deepglobe256
python -m benchmarks.evidence commands deepglobe256 runs --arms supervised,s4net --seeds 0,1,2 > commands.sh
OMP_NUM_THREADS=1 xargs -P 2 -I{} sh -c {} < commands.sh    # may be stopped, and run again, at any time
python -m benchmarks.evidence gather runs                   # the table of numbers, the page and its picture
"""

import argparse
import re
import shutil
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from s4aug_train.files import write_text

from .arms import COMMON, arms
from .evaluated import Evaluated, from_csv, of_runs, to_csv
from .plot import text

ROOT = Path(__file__).resolve().parent.parent
NUMBERS, PAGE = ROOT / "benchmarks" / "results" / "evidence.csv", ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "images" / "evidence.svg"
MARKS = re.compile(r"(<!-- evidence -->\n).*?(<!-- end of evidence -->)", re.DOTALL)
BASES = ("supervised", "sup+affine")
WIDTH, LEFT, RIGHT, ROW, TOP = 760, 170, 90, 28, 40  # px
COLOUR = "#5e35b1"


def halve(source: Path, out: Path) -> None:
    """A copy of half the size: images by area, masks by the nearest pixel, both as PNG."""
    (out / "train").mkdir(parents=True)
    for name in ("tiles.csv", "class_dict.csv"):
        shutil.copy(source / name, out / name)

    def halved(path: Path) -> None:
        picture = cv2.imread(str(path))
        size = (picture.shape[1] // 2, picture.shape[0] // 2)
        mask = path.stem.endswith("_mask")
        small = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if mask else cv2.INTER_AREA)
        cv2.imwrite(str(out / "train" / f"{path.stem}.png"), small)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(halved, sorted((source / "train").iterdir())))


def last(evaluated: Sequence[Evaluated]) -> dict[str, dict[int, Evaluated]]:
    """The evaluation at the end of each run, by arm and seed."""
    ends: dict[str, dict[int, Evaluated]] = {}
    for one in evaluated:
        if one.step == int(COMMON["train.steps"]):
            ends.setdefault(one.arm, {})[one.seed] = one
    return ends


def spread(values: Sequence[float]) -> str:
    """Mean, and where there are several, the standard deviation of the sample; nothing of none."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def gains(evaluated: Sequence[Evaluated], name: str, base: str, step: int) -> list[float]:
    """Points of mIoU of an arm above another one, seed by seed; none above itself."""
    of = {(one.arm, one.seed): one.miou for one in evaluated if one.step == step}
    seeds = [seed for arm, seed in of if arm == name != base and (base, seed) in of]
    return [of[name, seed] - of[base, seed] for seed in seeds]


def tables(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    """Markdown: mIoU by seed and beside the baselines of the same seed, IoU by class, the course, and that of gains."""
    ends = last(evaluated)
    seeds = sorted({one.seed for one in evaluated})
    columns = [*(f"seed {seed}" for seed in seeds), "mean", *(f"minus {base}" for base in BASES)]
    yield f"| arm | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, runs in ends.items():
        each = [f"{runs[seed].miou:.2f}" if seed in runs else "" for seed in seeds]
        apart = [spread(gains(evaluated, name, base, int(COMMON["train.steps"]))) for base in BASES]
        mean = spread([one.miou for one in runs.values()])
        yield f"| {name} | {' | '.join([*each, mean, *apart])} |"
    yield ""
    classes = list(evaluated[0].iou)
    yield f"| arm | {' | '.join(classes)} |"
    yield "|---" * (len(classes) + 1) + "|"
    for name, runs in ends.items():
        yield f"| {name} | {' | '.join(spread([one.iou[key] for one in runs.values()]) for key in classes)} |"
    yield ""
    steps = sorted({one.step for one in evaluated})
    yield f"| mIoU after | {' | '.join(f'{step} steps' for step in steps)} |"
    yield "|---" * (len(steps) + 1) + "|"
    for name in ends:
        course = [[one.miou for one in evaluated if (one.arm, one.step) == (name, step)] for step in steps]
        yield f"| {name} | {' | '.join(map(spread, course))} |"
    yield ""
    yield f"| minus {BASES[0]} after | {' | '.join(f'{step} steps' for step in steps)} |"
    yield "|---" * (len(steps) + 1) + "|"
    for name in ends:
        if name != BASES[0]:
            yield f"| {name} | {' | '.join(spread(gains(evaluated, name, BASES[0], step)) for step in steps)} |"


def picture(evaluated: Sequence[Evaluated]) -> str:
    """A row an arm: a point for each seed, a line at their mean."""
    ends = last(evaluated)
    most = 5 * (max(one.miou for runs in ends.values() for one in runs.values()) // 5 + 1)
    bottom, height = TOP + ROW * len(ends), TOP + ROW * len(ends) + 44

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(LEFT, 20, "mIoU on validation tiles after the last step: a point a seed, a line at the mean", size=13),
    ]
    for tick in range(0, int(most) + 1, 5):
        parts.append(f'<path d="M{place(tick):.1f} {TOP - 8}V{bottom}" stroke="#ddd"/>')
        parts.append(text(place(tick), bottom + 16, str(tick), anchor="middle"))
    parts.append(text(place(most / 2), bottom + 34, "mIoU, %", anchor="middle"))
    for number, (name, runs) in enumerate(ends.items()):
        y = TOP + ROW * (number + 0.5)
        values = [one.miou for one in runs.values()]
        mean = place(statistics.fmean(values))
        parts.append(text(LEFT - 10, y + 4, name, anchor="end"))
        parts.append(f'<path d="M{mean:.1f} {y - 9}V{y + 9}" stroke="{COLOUR}" stroke-width="2"/>')
        parts += [f'<circle cx="{place(v):.1f}" cy="{y}" r="4" fill="{COLOUR}" fill-opacity="0.55"/>' for v in values]
        parts.append(text(WIDTH - RIGHT + 6, y + 4, spread(values)))
    return "\n".join([*parts, "</svg>", ""])


def gather(runs: Path) -> None:
    """Numbers of finished runs, beside those of other ones that are known, and what is made of them."""
    names = [arm.name for arm in arms()]
    found = of_runs(runs, names, int(COMMON["train.steps"]))
    if not found:
        raise SystemExit(f"no run in {runs} is finished; run the commands first")
    anew = {(one.arm, one.seed) for one in found}
    known = from_csv(NUMBERS.read_text()) if NUMBERS.exists() else []
    whole = {(name, seed) for name, runs in last(known).items() for seed in runs}  # not of another budget
    every = [*found, *(one for one in known if one.arm in names and (one.arm, one.seed) in whole - anew)]
    write_text(NUMBERS, to_csv(sorted(every, key=lambda one: (names.index(one.arm), one.seed, one.step))))
    write()


def write() -> None:
    """The tables of the page and its picture, from the numbers."""
    evaluated = from_csv(NUMBERS.read_text())
    write_text(PAGE, MARKS.sub(lambda found: found[1] + section(evaluated) + found[2], PAGE.read_text()))
    write_text(PICTURE, picture(evaluated))


def section(evaluated: Sequence[Evaluated]) -> str:
    """What stands between the marks of the page."""
    return "\n".join(["", *tables(evaluated), "", ""])


def commands(data: Path, runs: Path, names: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    """One a run, seed by seed, so that arms can be compared early."""
    known = {arm.name: arm for arm in arms()}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no arm is named {', '.join(unknown)}; there are {', '.join(known)}")
    for seed in seeds:
        yield from (known[name].command(data, runs, seed) for name in names)


def main() -> None:
    """Parse, call, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, places in {"halve": ("source", "out"), "commands": ("data", "runs"), "gather": ("runs",)}.items():
        part = parts.add_parser(name)
        for place in places:
            part.add_argument(place, type=Path)
    parts.choices["commands"].add_argument("--arms", default="supervised,sup+affine,s4net,s4net-nomask")
    parts.choices["commands"].add_argument("--seeds", default="0,1,2")
    given = parser.parse_args()
    if given.part == "halve":
        halve(given.source, given.out)
    elif given.part == "gather":
        gather(given.runs)
    else:
        seeds = [int(seed) for seed in given.seeds.split(",")]
        print(*commands(given.data, given.runs, given.arms.split(","), seeds), sep="\n")


if __name__ == "__main__":
    main()
