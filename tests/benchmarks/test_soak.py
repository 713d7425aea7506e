"""A soak run is watched from outside, and one that leaks is found out."""

import csv
import json
import os
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import theilslopes

from benchmarks.curve import picture
from benchmarks.flatness import theil_sen, verdicts
from benchmarks.soak import Work, main, parser, soaked, table
from benchmarks.usage import Usage, descendants, usage
from s4aug_train.data.synthetic import Demo, write_demo

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
# Takes so much more every 10 ms, and opens so many more files.
PROGRAM = """
import os, time
held = [bytearray(8 << 20)]
while True:
    held.append(bytearray({leak}))
    held += [os.open(os.devnull, os.O_RDONLY) for _ in range({files})]
    time.sleep(0.01)
"""


def steady(**held):
    """Samples of two hours, a minute apart."""
    usual = {"resident_mib": 900.0, "anonymous_mib": 500.0, "descriptors": 40, "threads": 4, "processes": 1}
    return [
        Usage(60.0 * minute, **{**usual, **{kind: at(minute) for kind, at in held.items()}}) for minute in range(121)
    ]


def leaky(samples, warmup_s=600.0):
    return {verdict.kind for verdict in verdicts(samples, warmup_s) if not verdict.flat}


def watch(program, log):
    """The samples of three seconds of a program, and how it ended."""
    return soaked(Work((sys.executable, "-S", "-c", program), -15, str), 3.0, 0.1, log)


def test_the_line_is_that_of_scipy_and_wild_points_do_not_bend_it():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 10, 60))
    y = 3 * x + 7 + rng.normal(0, 0.1, 60)
    y[rng.choice(60, 15, replace=False)] += 1000
    slope, start = theil_sen(x, y)
    assert slope == pytest.approx(theilslopes(y, x)[0])
    assert slope == pytest.approx(3, abs=0.2)
    assert start == pytest.approx(7, abs=1)
    assert np.polyfit(x, y, 1)[1] > 100  # as least squares would have it


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({}, set()),
        ({"anonymous_mib": lambda minute: 500 + minute}, {"anonymous_mib"}),
        ({"anonymous_mib": lambda minute: 500 + 100 * (minute % 7 == 0)}, set()),
        ({"anonymous_mib": lambda minute: min(500 + 100 * minute, 1400)}, set()),  # full within the warm-up
        ({"resident_mib": lambda minute: 900 + minute}, set()),  # pages of files are the system's to take back
        ({"descriptors": lambda minute: 40 + minute // 20}, {"descriptors"}),
        ({"threads": lambda minute: 4 + minute // 20}, {"threads"}),
        ({"processes": lambda minute: 1 + minute // 20}, {"processes"}),
        ({"descriptors": lambda minute: 60 - minute // 20}, set()),
    ],
)
def test_what_grows_after_the_warm_up_is_found(held, found):
    assert leaky(steady(**held)) == found


def test_too_few_samples_tell_nothing():
    with pytest.raises(ValueError, match="1 samples after 7200 s"):
        verdicts(steady(), 7200.0)


@needs_proc
def test_a_process_that_leaks_is_told_from_one_that_does_not(tmp_path):
    samples, status = watch(PROGRAM.format(leak=100_000, files=1), tmp_path / "log.txt")
    assert status == -15
    assert leaky(samples, 0.5) == {"anonymous_mib", "descriptors"}
    samples, status = watch(PROGRAM.format(leak=0, files=0), tmp_path / "log.txt")
    assert status == -15
    assert leaky(samples, 0.5) == set()
    assert samples[-1].anonymous_mib > 8


@needs_proc
def test_a_process_that_ends_by_itself_is_told_with_what_it_said(tmp_path):
    with pytest.raises(ProcessLookupError, match=r"ended by itself, with 1: (.|\n)*no such thing"):
        watch("raise SystemExit('no such thing')", tmp_path / "log.txt")


@needs_proc
def test_children_and_theirs_count():
    import subprocess

    nested = f"{sys.executable} -S -c 'import time; time.sleep(60)'"
    with subprocess.Popen(
        ["sh", "-c", f"({nested}; true) & ({nested}; true); wait"], start_new_session=True
    ) as process:
        end = time.monotonic() + 20
        while len(descendants(process.pid)) < 4 and time.monotonic() < end:
            time.sleep(0.02)
        held = usage(process.pid, 1.5)
        os.killpg(process.pid, 9)
    assert (held.processes, held.threads, held.seconds) == (5, 5, 1.5)
    assert held.descriptors >= 15
    with pytest.raises(ProcessLookupError, match="has ended"):
        usage(process.pid, 2.0)


def test_the_curve_is_a_picture_of_its_own_and_says_what_it_shows():
    samples = steady()
    root = ET.fromstring(picture(samples, verdicts(samples, 600.0)[0], 600.0))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(root.itertext())
    for word in ("resident", "anonymous", "its trend", "descriptors", "threads", "processes", "minutes"):
        assert word in words


@pytest.mark.parametrize("path", sorted(RESULTS.glob("soak-*.json")), ids=lambda path: path.stem)
def test_the_results_are_what_the_samples_say(path):
    told = json.loads(path.read_text())
    rows = list(csv.reader(path.with_suffix(".csv").read_text().splitlines()))
    samples = [Usage(*map(float, row)) for row in rows[1:]]
    assert samples[-1].seconds == pytest.approx(60 * told["minutes"], abs=10)
    for verdict, each in zip(verdicts(samples, 60 * told["warmup_minutes"]), told["verdicts"], strict=True):
        assert verdict.flat
        assert each["flat"]
        assert verdict.per_hour == pytest.approx(each["per_hour"], abs=1.0)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("work", ["small", "calls"])
def test_a_short_soak_leaves_samples_curve_and_verdict(work, tmp_path, capsys):
    data = write_demo(tmp_path / "data", Demo(tiles=30, unlabeled=4, size=64))
    times = ["--minutes", "1.5", "--warmup", "0.5", "--every", "0.5"]
    arguments = [work, *times, "--data", data, "--out", tmp_path, "--docs", tmp_path]
    main(parser().parse_args([str(argument) for argument in arguments]))
    told = json.loads((tmp_path / f"soak-{work}.json").read_text())
    assert told["exit"] == (143 if work == "small" else -15)
    rows = list(csv.reader((tmp_path / f"soak-{work}.csv").read_text().splitlines()))
    assert len(rows) > 100
    assert (tmp_path / "images" / f"soak-{work}.svg").exists()
    assert told["done"] in capsys.readouterr().out


def test_samples_are_written_by_column():
    assert table(steady()[:2]).splitlines() == [
        "seconds,resident_mib,anonymous_mib,descriptors,threads,processes",
        "0.0,900.0,500.0,40,4,1",
        "60.0,900.0,500.0,40,4,1",
    ]
