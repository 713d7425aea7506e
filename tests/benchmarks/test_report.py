"""Files of results come back as they were, and the page says what they hold and what they lack."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.cases import FULL, KINDS, base_case, cases_of
from benchmarks.conftest import is_settled, is_whole, save
from benchmarks.plot import AXES, grown, growth_picture, ticks
from benchmarks.reach import verdicts
from benchmarks.records import Measured, Record, Run, Session, merged, read_run, run_path, write_run
from benchmarks.report import newest_runs, page, write_report
from benchmarks.table import digits, rendered

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = {
    "forward": ("Kornia", "Kornia + mask", "OpenCV"),
    "forward+backward": ("Kornia",),
    "backward": ("grid_sample",),
    "pool": ("Kornia chain",),
    "objective": ("Kornia + masks",),
    "step": ("Kornia",),
    "trainer": (),
    "script": ("plain script",),
}


def made_record(case, peer_s=0.03):
    """Ours takes 1 ns for a pixel and channel and one byte; peers take `peer_s` times 100 of ours, and 3 bytes."""
    cost = case.batch * case.channels * case.pixels
    figures = {"data wait": 0.002} if case.kind in ("trainer", "script") else {}
    ours = Measured("ours", tuple(1e-9 * cost * drift for drift in (1.0, 1.5, 1.1)), cost, True, figures)
    peer = Measured("peer", tuple(100 * peer_s * seconds for seconds in ours.times_s), 3 * cost, None)
    contenders = {"s4aug": ours} | dict.fromkeys(PEERS[case.kind], peer)
    contenders["copy"] = Measured("limit", tuple(0.8 * seconds for seconds in ours.times_s), None, None)
    if case.kind == "step":
        contenders["perturb + restore + loss"] = Measured("part", tuple(0.02 * s for s in ours.times_s), None, None)
    if case.kind == "trainer":
        mapped = Measured("ours", ours.times_s, cost, None, {"data wait": 0.02})
        bare = Measured("limit", tuple(seconds / 1.04 for seconds in ours.times_s), cost // 2, None)
        contenders |= {"s4aug-train, memory map": mapped, "bare network": bare}
        contenders["s4aug-train"] = contenders.pop("s4aug")
    return Record(case, contenders, {"fuse-augmentations": "not installed"})


def made_run(device="cpu", **changes):
    records = tuple(made_record(case) for kind in KINDS for case in cases_of(kind, FULL, device))
    machine = {"cpu": "cpu-2core", "cuda": "nvidia-h200"}[device]
    run = Run("0.2.0", machine, device, "full", "2026-01-02", {"CPU": "made up", "torch": "2"}, records, ())
    return replace(run, **changes)


def test_a_file_comes_back_as_it_was(tmp_path):
    run = made_run(failed=("a",))
    path = tmp_path / "run.json"
    write_run(path, run)
    assert read_run(path) == run
    assert json.loads(path.read_text())["machine"] == "cpu-2core"
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_whole_run_gets_the_name_that_counts(tmp_path):
    run = made_run()
    assert is_whole(run, FULL)
    assert not is_whole(replace(run, records=run.records[1:]), FULL)
    assert not is_whole(replace(run, failed=("a case",)), FULL)
    assert run_path(tmp_path, run, whole=True).name == "0.2.0-cpu-2core.json"
    assert run_path(tmp_path, run, whole=False).name == "0.2.0-cpu-2core-part.json"
    assert run_path(tmp_path, replace(run, scale="quick"), whole=True).name == "0.2.0-cpu-2core-quick.json"


def test_whole_kinds_measured_anew_go_into_the_file_that_is_there(tmp_path):
    old = made_run()
    trainer = tuple(replace(r, refused={}) for r in old.records if r.case.kind == "trainer")
    new = made_run(records=trainer, date="2026-03-04", setup={"CPU": "another", "torch": "3"})
    assert is_settled(new, FULL)
    assert save(tmp_path, new, FULL).name == "0.2.0-cpu-2core-part.json"  # there is no file yet
    assert save(tmp_path, old, FULL).name == "0.2.0-cpu-2core.json"
    path = save(tmp_path, new, FULL)
    joined = read_run(path)
    assert path.name == "0.2.0-cpu-2core.json"
    assert joined == merged(old, new)
    assert is_whole(joined, FULL)
    assert list(joined.of_kind("trainer")) == list(trainer)
    assert [*joined.of_kind("forward")] == [*old.of_kind("forward")]
    assert (joined.date, joined.setup) == (old.date, old.setup)
    assert joined.later == {"trainer": Session(new.date, new.setup)}
    text = page([joined])
    assert text.count("Measured on 2026-03-04. CPU another, torch 3.") == 1
    assert "Measured on" not in page([old])


def test_a_part_of_a_kind_or_one_that_failed_changes_no_file(tmp_path):
    old = made_run()
    path = save(tmp_path, old, FULL)
    some = tuple(record for record in old.records if record.case.kind == "forward")[1:]
    failed = tuple(old.of_kind("trainer"))
    for new in (made_run(records=some), made_run(records=failed, failed=("test_script",))):
        assert not is_settled(new, FULL)
        assert save(tmp_path, new, FULL).name == "0.2.0-cpu-2core-part.json"
        assert read_run(path) == old


def test_a_file_of_before_there_were_figures_is_read_and_written_as_it_is(tmp_path):
    (held,) = (ROOT / "benchmarks" / "results").glob("0.1.0-cpu-2core.json")
    run = read_run(held)
    kept = replace(run, records=tuple(r for r in run.records if r.case.kind not in ("trainer", "script")), later={})
    path = tmp_path / held.name
    write_run(path, kept)
    assert "figures" not in path.read_text()
    assert "later" not in path.read_text()
    assert read_run(path) == kept


def test_the_trainer_is_judged_by_what_it_adds():
    found = {(v.target.against, v.target.measure): v for v in verdicts(made_run()) if v.target.kind == "trainer"}
    overhead = found["bare network", "overhead"]
    assert overhead.value.median == pytest.approx(0.04)
    assert overhead.met
    assert found["s4aug-train", "wait"].met
    assert not found["s4aug-train, memory map", "wait"].met
    text = page([made_run()])
    assert "| 4x6x256x256 | bare network | at most 5 % more time | 4 % (4 to 4) | yes |" in text
    assert "| s4aug-train, memory map | waits for data at most 1 % of the time | 2 % | **no** |" in text
    row = next(line for line in text.splitlines() if "| s4aug-train, memory map | 1" in line)
    assert row.endswith("| 4 % (4 to 4) | 2 % |")


def test_targets_for_a_gpu_are_told_where_there_is_none():
    text = page([made_run()])
    assert "| 4x6x512x512 | plain script | 2x as fast | not measured on a GPU |" in text
    assert "not measured on a GPU" not in page([made_run(), made_run("cuda")])


def test_targets_are_judged_by_medians():
    found = {(v.target.kind, v.target.against, v.target.measure): (v.value.median, v.met) for v in verdicts(made_run())}
    assert found["forward", "Kornia", "speed"] == (pytest.approx(3.0), True)
    assert found["forward", "Kornia + mask", "speed"] == (pytest.approx(3.0), False)
    assert found["forward", "OpenCV", "speed"] == (pytest.approx(3.0), True)
    assert found["objective", "Kornia + masks", "memory"] == (pytest.approx(3.0), True)
    assert found["pool", "Kornia chain", "speed"] == (pytest.approx(3.0), False)


def test_targets_for_a_gpu():
    found = {(v.target.kind, v.target.measure): v for v in verdicts(made_run("cuda"))}
    assert found["forward", "limit"].case.batch == 32
    assert found["forward", "limit"].met
    assert found["step", "share"].met
    assert found["backward", "same bits"].met
    assert not found["objective", "speed"].met


def test_what_was_not_measured_is_said():
    run = made_run()
    text = page([run])
    assert "**Not measured on a GPU.**" in text
    assert "Not measured on a CPU" not in text
    assert "fuse-augmentations: not installed" in text
    less = replace(run, records=tuple(r for r in run.records if r.case.kind not in ("pool", "objective")))
    text = page([less])
    assert (
        "| 8-bit pool: crop, flip, affine, normalise | 8x3x512x512 | Kornia chain | 5x as fast | not measured |" in text
    )
    assert "- consistency objective, forward + backward: no case" in text
    both = page([run, made_run("cuda")])
    assert "Not measured on a" not in both
    assert "## nvidia-h200" in both


def test_the_page_shows_targets_ratios_and_growth():
    text = page([made_run()])
    assert "| forward + mask | 8x3x512x512 | Kornia | 2x as fast | 3.00x (3.00 to 3.00) | yes |" in text
    assert "| 1/2 of its memory | 1/3.00 | yes |" in text
    assert "| forward + mask | images B | 2, 32 | 16.0 | 16.0 | 16.0 |" in text
    assert "| 8x3x512x512 | float32 | 6.92 (6.61 to 8.18) | 3.00 (3.00 to 3.00) |" in text


def test_the_newest_version_of_each_machine_counts_and_trials_do_not(tmp_path):
    new, old = made_run(version="0.10.0"), made_run(version="0.9.0")
    trial = made_run(version="9.0.0", scale="quick")
    for run in (new, old, trial, made_run("cuda")):
        write_run(run_path(tmp_path, run, whole=True), run)
    assert [(run.machine, run.version) for run in newest_runs(tmp_path)] == [
        ("cpu-2core", "0.10.0"),
        ("nvidia-h200", "0.2.0"),
    ]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.title)
def test_a_growth_axis_holds_one_thing_that_grows(axis):
    records = grown(made_run(), "forward", axis)
    values = [axis.value(record.case) for record in records]
    assert len(values) > 2
    assert values == sorted(set(values))


def test_the_picture_holds_every_point():
    root = ElementTree.fromstring(growth_picture(made_run(), "forward", "a < b"))
    lines = [element for element in root if element.tag.endswith("polyline")]
    # Ours, Kornia with a mask and the copy for time; the copy has no memory.
    assert len(lines) == 3 * 3 + 3 * 2
    assert len(lines[0].get("points").split()) == len(FULL.batches)
    assert ticks(110) == [0, 50, 100]
    assert ticks(0.9) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_pictures_of_machines_that_are_gone_are_deleted(tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    write_run(results / "0.2.0-cpu-2core.json", made_run())
    write_report(results, docs)
    assert len(list((docs / "images").iterdir())) == 2
    (results / "0.2.0-cpu-2core.json").unlink()
    write_report(results, docs)
    assert list((docs / "images").iterdir()) == []
    assert "Not measured on a CPU" in (docs / "performance.md").read_text()


def test_the_page_in_the_docs_is_made_of_the_results_here():
    assert (ROOT / "docs" / "performance.md").read_text() == page(newest_runs(ROOT / "benchmarks" / "results"))


def test_the_table_of_a_run():
    record = made_record(base_case("forward", FULL, "cpu"))
    text = rendered([record], 150)
    row = next(line for line in text.splitlines() if "Kornia + mask" in line)
    assert [cell.strip() for cell in row.split("│")][3:7] == ["20.8", "19.8 to 24.5", "3.00", "3.00 to 3.00"]
    assert "forward: fuse-augmentations: not installed" in text
    assert [digits(value) for value in (0, 1234, 123.4, 12.34, 1.234, 0.1234, 0.01234)] == [
        *("0", "1234", "123", "12.3", "1.23", "0.123", "0.012")
    ]


def test_a_part_of_the_suite_times_and_writes(tmp_path):
    options = ["--benchmark", "--benchmark-quick", "--benchmark-device", "cpu", "--benchmark-out", str(tmp_path)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "benchmarks/",
        *options,
        "-k",
        "forward-2x3x64x64",
        "-p",
        "no:cacheprovider",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-quick-part.json")
    (record,) = read_run(path).records
    assert record.case.shape == "2x3x64x64"
    assert len(record.ours.times_s) >= 3
    assert record.ratio("Kornia").median > 0
