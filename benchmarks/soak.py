"""Runs real work for long, and holds what it takes of the machine to staying flat.

    python -m benchmarks.soak fit --minutes 30
    python -m benchmarks.soak predict --minutes 5

`fit` trains with checkpoints and evaluations far more often than anyone would, `small` the same with a network of two
layers, and so far more of them; `predict` makes one map after another in one call; `calls` calls `predict` from Python
again and again. Each is sampled from outside, ended as a scheduler would
end it, and judged. Exit 1: something grew, or it did not end as it should.
"""

import argparse
import csv
import io
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from torch import nn

from s4aug import __version__
from s4aug_train.engine import Checkpoint
from s4aug_train.files import write_json, write_text
from s4aug_train.records import read_metrics

from .curve import picture
from .flatness import Verdict, verdicts
from .machine import describe_machine
from .usage import Usage, usage

ROOT = Path(__file__).resolve().parent.parent
TRAINER = (sys.executable, "-m", "s4aug_train")
QUICK = ("fit", "--preset", "quick", "--crop", "64", "--weights", "none")
SMALL = ("--model", "benchmarks.soak:small_network")
RASTERS = 20_000  # more than minutes are enough for
PATIENCE_S = 120.0  # from the signal to the end
CALLS = """\
import itertools, pathlib, sys, s4aug_train
rasters, run, out, model = sys.argv[1:]
for number in itertools.count(1):
    s4aug_train.predict(rasters, run, {"model.factory": model}, out=out, overwrite=True)
    pathlib.Path(out, "calls.txt").write_text(str(number))
"""


@dataclass(frozen=True)
class Work:
    """A process to be watched.

    Args:
        command: It runs until it is told to end.
        ends: The exit status that it is to end with.
        done: What it has done, for people; raises where what it leaves is not whole.
    """

    command: Sequence[str]
    ends: int
    done: Callable[[], str]


def fitting(home: Path, data: str, *network: str) -> Work:
    """A run whose every part takes its turn within a minute or so."""
    often = {"checkpoint_every": 25, "evaluate_every": 50, "log_every": 5, "pool": "map"}
    settings = [part for name, value in often.items() for part in ("--set", f"train.{name}={value}")]
    small = ("--batch-labeled", "1", "--batch-unlabeled", "1", "--labeled", "20", "--val", "8")
    run = home / "run"
    command = (*TRAINER, *QUICK, "--data", data, "--out", str(run), *small, "--steps", "10000000", "--workers", "2")

    def done() -> str:
        step = Checkpoint.read(run / "checkpoints" / "last.pt").step
        evaluations = sum(line.get("miou") is not None for line in read_metrics(run / "metrics.jsonl"))
        return f"{step} steps, {step // 25} checkpoints, {evaluations} evaluations"

    return Work((*command, "--tensorboard", *settings, *network), 128 + signal.SIGTERM, done)


def small_network(classes: int, bands: int) -> nn.Module:
    """One that costs next to nothing: what is soaked is all that is around a network."""
    return nn.Sequential(nn.Conv2d(bands, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))


def fitting_small(home: Path, data: str) -> Work:
    """The same with a small network, which gets through far more steps, checkpoints and evaluations."""
    return fitting(home, data, *SMALL)


def predicting(home: Path, data: str) -> Work:
    """One call over thousands of rasters: one of the demo's, under many names."""
    rasters, maps = home / "rasters", home / "maps"
    links(trained(home, data), rasters, RASTERS)
    command = (*TRAINER, "predict", str(home / "run"), str(rasters), "--out", str(maps), *SMALL)
    return Work(command, -signal.SIGTERM, lambda: f"{sum(1 for _ in maps.glob('[!.]*.tif'))} maps")


def calling(home: Path, data: str) -> Work:
    """A program that calls `predict` for a few rasters, again and again."""
    rasters, maps = home / "rasters", home / "maps"
    links(trained(home, data), rasters, 4)
    command = (sys.executable, "-c", CALLS, str(rasters), str(home / "run"), str(maps), SMALL[1])
    return Work(command, -signal.SIGTERM, lambda: f"{(maps / 'calls.txt').read_text()} calls of 4 rasters each")


WORKS = {"fit": fitting, "small": fitting_small, "predict": predicting, "calls": calling}


def trained(home: Path, data: str) -> Path:
    """A short run in `home`, and a raster that it can predict."""
    tiles = home / "tiles"
    subprocess.run([*TRAINER, "demo-data", str(tiles), "--tiles", "8", "--unlabeled", "1", "--size", "64"], check=True)
    short = ("--data", data, "--out", str(home / "run"), "--labeled", "4", "--val", "2", "--steps", "2")
    subprocess.run([*TRAINER, *QUICK, *short, *SMALL], check=True)
    return next((tiles / "valid").glob("*.jpg"))


def links(source: Path, folder: Path, count: int) -> None:
    """One file under many names."""
    folder.mkdir()
    for number in range(count):
        os.link(source, folder / f"{number:05d}{source.suffix}")


def watched(process: "subprocess.Popen[bytes]", seconds: float, every_s: float) -> Iterator[Usage]:
    """What a process holds, now and then.

    Raises:
        ProcessLookupError: It ended by itself.
    """
    start = time.monotonic()
    for turn in range(int(seconds / every_s) + 1):
        time.sleep(max(0.0, start + turn * every_s - time.monotonic()))
        if process.poll() is not None:
            raise ProcessLookupError(f"it ended by itself, with {process.returncode}")
        yield usage(process.pid, time.monotonic() - start)


def soaked(work: Work, seconds: float, every_s: float, log: Path) -> tuple[list[Usage], int]:
    """The samples of some work, and its exit status; what it prints goes to `log`.

    Raises:
        ProcessLookupError: It ended by itself.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(work.command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        samples = list(watched(process, seconds, every_s))
        process.terminate()
        return samples, process.wait(PATIENCE_S)
    except ProcessLookupError as error:
        raise ProcessLookupError(f"{error}: {log.read_text(errors='replace')[-2000:]}") from error
    finally:
        process.kill()
        process.wait()


def table(samples: Sequence[Usage]) -> str:
    """CSV."""
    content = io.StringIO()
    rows = csv.writer(content, lineterminator="\n")
    rows.writerow([field.name for field in fields(Usage)])
    rows.writerows([f"{value:.1f}" if isinstance(value, float) else value for value in astuple(s)] for s in samples)
    return content.getvalue()


def main(arguments: argparse.Namespace) -> int:
    """Soak, judge, write."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        home = Path(folder)
        work = WORKS[arguments.work](home, arguments.data)
        samples, status = soaked(work, 60 * arguments.minutes, arguments.every, home / "output.txt")
        done = work.done()
    found = verdicts(samples, 60 * arguments.warmup)
    command = shlex.join(work.command).replace(sys.executable, "python").replace(folder, "FOLDER")
    write(arguments, samples, found, {"command": command, "done": done, "exit": status})
    print(f"{done}; exit {status}, expected {work.ends}")
    for each in found:
        print(f"{each.kind}: {each.per_hour:+.2f} an hour from {each.start:.1f}, limit {each.limit:g}: {each.flat}")
    return 0 if status == work.ends and all(verdict.flat for verdict in found) else 1


def write(
    arguments: argparse.Namespace, samples: Sequence[Usage], found: Sequence[Verdict], told: Mapping[str, str | int]
) -> None:
    """CSV, JSON and curve."""
    name = f"soak-{arguments.work}"
    write_text(arguments.out / f"{name}.csv", table(samples))
    write_text(arguments.docs / "images" / f"{name}.svg", picture(samples, found[0], 60 * arguments.warmup))
    content = {
        "version": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "setup": describe_machine("cpu"),
        "minutes": arguments.minutes,
        "warmup_minutes": arguments.warmup,
        **told,
        "verdicts": [{**asdict(verdict), "flat": verdict.flat} for verdict in found],
    }
    write_json(arguments.out / f"{name}.json", content)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("work", nargs="?", choices=WORKS, default="fit")
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--warmup", type=float, default=5.0, help="minutes that do not count")
    options.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    options.add_argument("--data", default="demo", help="folder of images and masks")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of CSV and JSON")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", help="whose images/ gets the curve")
    return options


if __name__ == "__main__":
    sys.exit(main(parser().parse_args()))
