"""Writes docs/performance.md, and its pictures, from the files of results.

    python -m benchmarks.report

Of each machine the newest version counts. Trials (-quick) and parts of the suite (-part) are left out.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from s4aug_train.files import write_text

from .cases import FULL, KINDS, LARGEST_OBJECTIVE_ON_CPU, Case
from .plot import AXES, grown, growth_picture
from .reach import TARGETS, WORDS, Target, Verdict, above, verdicts
from .records import Record, Run, read_run
from .table import digits, mebibytes, milliseconds
from .timing import Spread
from .training import BARE, WAIT

ROOT = Path(__file__).resolve().parent.parent
INTRODUCTION = """\
# Performance

Made by `python -m benchmarks.report` from the files in `benchmarks/results/`, one per version and machine.

```sh
pytest benchmarks/ --benchmark                  # verify, time, write the file of this machine
pytest benchmarks/ --benchmark --benchmark-quick    # small sizes, to try it
pytest benchmarks/test_trainer.py --benchmark       # these kinds of work anew, into the file that is there
python -m benchmarks.report                     # write this page
```

Every contender is verified first: ours against the reference (validity to the bit), peers against it where a pixel is
valid, with tolerances that follow from how far from the true point each samples. A failed case fails the run. Then
all contenders of a case take turns in one process, in an order drawn anew each round, and a ratio is taken within
a round; the figures are medians, in brackets the quartiles. **Ratios tell how many times as long another takes as
s4aug does: more than 1 is good for us.** That of the copy, the same bytes read once and written once, is the share of
the limit that s4aug reaches. Memory is the peak above what holds the inputs, outputs included.

Peers are given their matrices ready made. "+ mask" warps a mask of ones as well and cuts it off at 0.999. 16-bit pixels
go through float32 there, for their coordinates would be pixels off. OpenCV works on its own layout, and 8-bit images
stay so. fuse-augmentations and "Kornia augmentations" draw their motions within the time.

The trainer is timed as a run goes: loader, step, losses kept, records. The bare network is the same one on as many
images that are there already: forward, backward from a gradient that is there, and the optimizer's step. "Plain script"
is `benchmarks/plain_script.py`, the same algorithm in PyTorch and Kornia as one would write it, with our network, on
the same image files of DeepGlobe's size.
"""
GPU_MISSING = "**Not measured on a GPU.** Targets for one (H200) wait for a run with `--benchmark-device cuda`.\n"
CPU_MISSING = "**Not measured on a CPU.** No whole run has been recorded yet.\n"


def newest_runs(folder: Path) -> list[Run]:
    """One per machine, CPUs first."""
    newest: dict[str, Run] = {}
    for path in sorted(folder.glob("[0-9]*.json")):
        if path.stem.endswith(("-quick", "-part")):
            continue
        run = read_run(path)
        held = newest.get(run.machine)
        if held is None or version_key(run) > version_key(held):
            newest[run.machine] = run
    return sorted(newest.values(), key=lambda run: (run.device != "cpu", run.machine))


def version_key(run: Run) -> tuple[list[int], str]:
    return [int(part) for part in re.findall(r"\d+", run.version)], run.date


def page(runs: Sequence[Run]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    devices = {run.device for run in runs}
    if "cpu" not in devices:
        parts.append(CPU_MISSING)
    for run in runs:
        parts += run_section(run)
    if "cuda" not in devices:
        parts += ["## On a GPU\n", GPU_MISSING, gpu_targets()]
    return "\n".join(parts)


def gpu_targets() -> str:
    """What a GPU is to reach, while there is no run of one."""
    there = [target for target in TARGETS if target.device == "cuda"]
    rows = [[*target_cells(target, target.case_at(FULL)), "not measured on a GPU"] for target in there]
    return table(["work", "size", "against", "target", "measured"], rows)


def run_section(run: Run) -> list[str]:
    parts = [f"## {run.machine}\n", f"s4aug {run.version}, {run.date}. {setup_words(run.setup)}.\n"]
    if run.scale != "full":
        parts.append("Small sizes, to try the suite: not figures to go by.\n")
    parts += [
        "### Targets\n",
        table(
            ["work", "size", "against", "target", "measured", "met"],
            [target_row(verdict) for verdict in verdicts(run)],
        ),
        "### Cost against growth\n",
        "Axes start at 0, so what is linear is a straight line.\n",
    ]
    for kind in ("forward", "objective"):
        parts.append(f"![{WORDS[kind]}: time and memory over B, pixels and C](images/{picture_name(run, kind)})\n")
    parts.append(table(["work", "what grows", "from, to", "by", "time by", "memory by"], growth_rows(run), left=3))
    for kind in KINDS:
        parts += kind_section(run, kind)
    return [*parts, *missing_section(run)]


def setup_words(setup: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in setup.items())


def picture_name(run: Run, kind: str) -> str:
    return f"performance-{run.machine}-{kind}.svg"


def target_row(verdict: Verdict) -> list[str]:
    met = {True: "yes", False: "**no**", None: ""}[verdict.met]
    return [*target_cells(verdict.target, verdict.case), measured_words(verdict), met]


def target_cells(target: Target, case: Case) -> list[str]:
    """Work, size, against whom, what is wanted."""
    wanted = {
        "speed": f"{target.bound:g}x as fast",
        "limit": f"{100 * target.bound:g} % of its speed",
        "memory": f"1/{target.bound:g} of its memory",
        "share": f"at most {100 * target.bound:g} % of the step",
        "same bits": "the same bits in two runs",
        "overhead": f"at most {100 * target.bound:g} % more time",
        "wait": f"waits for data at most {100 * target.bound:g} % of the time",
    }[target.measure]
    return [WORDS[target.kind], case.shape, target.against, wanted]


def measured_words(verdict: Verdict) -> str:
    value, measure = verdict.value, verdict.target.measure
    if value is None:
        return "not measured"
    if measure == "same bits":
        return "the same" if value.median else "not the same"
    if measure == "wait":
        return per_cent(value.median)
    if measure in ("share", "limit", "overhead"):
        return f"{per_cent(value.median)} ({100 * value.low:.2g} to {100 * value.high:.2g})"
    if measure == "memory":
        return f"1/{digits(value.median)}"
    return f"{digits(value.median)}x ({digits(value.low)} to {digits(value.high)})"


def per_cent(share: float) -> str:
    return f"{100 * share:.2g} %"


def growth_rows(run: Run) -> list[list[str]]:
    rows = []
    for kind in ("forward", "objective"):
        for axis in AXES:
            records = grown(run, kind, axis)
            if len(records) > 1:
                first, last = records[0], records[-1]
                low, high = axis.value(first.case), axis.value(last.case)
                slower = last.ours.time.median / first.ours.time.median
                peaks = [record.ours.peak_bytes for record in (first, last)]
                more = digits(peaks[1] / peaks[0]) if peaks[0] and peaks[1] else ""
                ends = f"{low:.2g}, {high:.3g}"
                rows.append([WORDS[kind], axis.title, ends, digits(high / low), digits(slower), more])
    return rows


def kind_section(run: Run, kind: str) -> list[str]:
    records = list(run.of_kind(kind))
    if not records:
        return []
    names = list(dict.fromkeys(name for record in records for name in record.contenders))
    own, others = names[0], names[1:]
    times = [
        [*shape_cells(record), own_time(record), *(ratio_cell(record, name) for name in others)] for record in records
    ]
    parts = [
        f"### {WORDS[kind][0].upper()}{WORDS[kind][1:]}\n",
        "Time of s4aug, and how many times as long the others take:\n",
        table(["size", "type", f"{own}, ms", *others], times, left=2),
    ]
    if kind in run.later:
        session = run.later[kind]
        parts.insert(1, f"Measured on {session.date}. {setup_words(session.setup)}.\n")
    if any(each.figures for record in records for each in record.contenders.values()):
        header = ["size", "type", "path", "a step, ms", "more than the bare network", "waits for data"]
        parts += ["What our paths add:\n", table(header, [row for r in records for row in added_rows(r)], left=3)]
    if any(each.peak_bytes is not None for record in records for each in record.contenders.values()):
        peaks = [[*shape_cells(record), *(peak_cell(record, name) for name in names)] for record in records]
        parts += ["Peak memory, MiB:\n", table(["size", "type", *names], peaks, left=2)]
    return parts


def added_rows(record: Record) -> list[list[str]]:
    """Of each path of ours how much longer than the bare network it takes, and how much of it is waiting."""
    rows = []
    for name, each in record.contenders.items():
        if each.role != "ours":
            continue
        more = ""
        if BARE in record.contenders:
            low, median, high = above(record, name, BARE)
            more = f"{per_cent(median)} ({100 * low:.2g} to {100 * high:.2g})"
        waits = per_cent(each.figures[WAIT]) if WAIT in each.figures else ""
        rows.append([*shape_cells(record), name, milliseconds(each.time.median), more, waits])
    return rows


def shape_cells(record: Record) -> list[str]:
    return [record.case.shape, record.case.dtype]


def own_time(record: Record) -> str:
    time: Spread = record.ours.time
    return f"{milliseconds(time.median)} ({milliseconds(time.low)} to {milliseconds(time.high)})"


def ratio_cell(record: Record, name: str) -> str:
    if name not in record.contenders:
        return ""
    ratio: Spread = record.ratio(name)
    return f"{digits(ratio.median)} ({digits(ratio.low)} to {digits(ratio.high)})"


def peak_cell(record: Record, name: str) -> str:
    return mebibytes(record.contenders[name].peak_bytes) if name in record.contenders else ""


def missing_section(run: Run) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for kind in KINDS:
        for record in run.of_kind(kind):
            for name, reason in record.refused.items():
                places = reasons.setdefault(f"{name}: {reason}", [])
                place = f"{WORDS[kind]}, {record.case.dtype}"
                if place not in places:
                    places.append(place)
    lines = [f"- {reason} ({'; '.join(places)})" for reason, places in reasons.items()]
    lines += [f"- {WORDS[kind]}: no case" for kind in KINDS if not any(run.of_kind(kind))]
    if run.device == "cpu":
        lines.append(f"- The objective beyond B = {LARGEST_OBJECTIVE_ON_CPU}: the compositions need too much memory")
    counted = [record for record in run.records if (record.case.kind, record.case.device) != ("script", "cpu")]
    if len(counted) < len(run.records):
        lines.append(f"- Peak memory of {WORDS['script']}: the script reads ahead in processes of its own")
    if any(each.peak_bytes is None for record in counted for each in record.contenders.values()):
        lines.append("- Peak memory of some contenders: there is no way to measure it on this system")
    return ["### Not measured\n", *lines, ""]


def table(header: list[str], rows: Sequence[Sequence[str]], *, left: int = 9) -> str:
    marks = ["---" if i < left else "---:" for i in range(len(header))]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in (header, marks, *rows)), ""])


def write_report(results: Path, docs: Path) -> None:
    """The page and its pictures; pictures of machines that are gone are deleted."""
    runs = newest_runs(results)
    pictures = {
        picture_name(run, kind): growth_picture(run, kind, f"{WORDS[kind]}, {run.machine}")
        for run in runs
        for kind in ("forward", "objective")
    }
    for old in (docs / "images").glob("performance-*.svg"):
        if old.name not in pictures:
            old.unlink()
    for name, content in pictures.items():
        write_text(docs / "images" / name, content)
    write_text(docs / "performance.md", page(runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder of results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page")
    arguments = parser.parse_args()
    write_report(arguments.results, arguments.docs)


if __name__ == "__main__":
    main()
