"""`s4aug-train reproduce`: a grid that is planted, and what a user may do to it."""

import json
import os
import re
import signal
import sys

import pytest

from s4aug_train.cli import grid as command
from s4aug_train.config import Config, read_settings
from s4aug_train.reproduce import timing
from s4aug_train.reproduce.grid import TABLES, Cell
from s4aug_train.run import RunFolder, held
from tests.s4aug_train.cli.reproduce_cases import SMALL, call, failure, lines_of

LABELS = {"table2": "4", "table3": "4", "table4": "3,4", "fig5": "4"}


class Planted:
    """Stands in for `fit`: writes what a run would leave, or fails, after a few looks.

    Args:
        failing: Names of runs that fail.
        on_begin: Called with each run's number as it begins.
        code: How the others exit.
    """

    def __init__(self, failing=(), on_begin=lambda number: None, code=0):
        self.failing, self.on_begin, self.began, self.code = set(failing), on_begin, [], code

    def __call__(self, folder, jobs, gpus=()):
        self.folder = folder
        return self

    def start(self, cell, slot):
        self.began.append(cell.name)
        self.on_begin(len(self.began))
        return PlantedProcess(self.folder, cell, cell.name in self.failing, self.code)


class PlantedProcess:
    def __init__(self, folder, cell, fails, code):
        self.folder, self.cell, self.fails, self.looks, self.signal = folder, cell, fails, 0, None
        self.code = code

    def poll(self):
        self.looks += 1
        if self.signal:
            return 128 + self.signal
        if self.looks < 3:
            return None
        if self.fails:
            self.folder.log(self.cell).parent.mkdir(exist_ok=True)
            self.folder.log(self.cell).write_text("step 1\nerror: the disk is full; free some space\n")
            return 1
        write_run(self.folder, self.cell)
        return self.code

    def send_signal(self, number):
        self.signal = number

    def kill(self):
        raise AssertionError("it ends by itself")


def write_run(folder, cell):
    run, config = folder.run(cell), Config().updated(read_settings(folder.settings(cell)))
    run.path.mkdir(parents=True)
    run.config.write_text(config.to_yaml())
    value = planted_miou(cell)
    lines = [
        {"step": config.train.steps, "loss": 1.0, "images_per_s": 12.0},
        {"step": config.train.steps, "miou": value, "iou": {"water": value / 2, "forest_land": value}},
    ]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


def planted_miou(cell):
    return (cell.labels + 7 * cell.seed + len(cell.method) + (cell.weight or 2)) / 200


@pytest.fixture
def planted(monkeypatch):
    """A function that plants runs; steps take half a second, by what is said."""

    def plant(*arguments, **options):
        fits = Planted(*arguments, **options)
        monkeypatch.setattr(command, "Fits", fits)
        return fits

    monkeypatch.setattr(timing, "step_seconds", lambda config, bands, classes: 0.5)
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 1)
    return plant


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_run_once_and_shown_beside_the_paper_s(planted, demo_folder, tmp_path, table):
    fits, out = planted(), tmp_path / "E"
    arguments = (table, "--data", demo_folder, "--out", out, "--labels", LABELS[table], "--seeds", "0,1", *SMALL)
    result = call(*arguments)
    runs = {"table2": 8, "table3": 8, "table4": 8, "fig5": 10}[table]
    assert len(fits.began) == len(set(fits.began)) == runs
    assert f"{runs} runs, 0 finished, 1 at once; about" in result.stderr
    assert "* not the paper's setting: 12 tiles of 64 x 64 px" in result.stdout.replace("\n", " ")
    assert {"table2": "65.2", "table3": "57.97", "table4": "S4Net minus baseline", "fig5": "65.2"}[
        table
    ] in result.stdout
    assert {path.name for path in (out / table).iterdir()} == {"results.csv", "results.md", "figure.svg"}
    assert {line["n"] for line in lines_of(out, table) if line["values"]} == {"2"}
    again = call(*arguments)
    assert len(fits.began) == runs
    assert again.stdout == result.stdout
    assert f"{runs} runs, {runs} finished" in again.stderr


def test_what_fails_after_its_figure_is_finished_now_as_in_the_next_call(planted, demo_folder, tmp_path):
    fits = planted(code=1)
    arguments = ("table2", "--data", demo_folder, "--out", tmp_path / "E", "--labels", 4, "--seeds", "0", *SMALL)
    result = call(*arguments)
    assert len(fits.began) == 4
    assert "Not finished" not in result.stdout
    assert call(*arguments).stdout == result.stdout


def test_the_figures_are_those_of_the_runs(planted, demo_folder, tmp_path):
    planted()
    call("fig5", "--data", demo_folder, "--out", tmp_path / "E", "--labels", 4, "--seeds", "3", *SMALL)
    found = {line["row"]: float(line["ours_mean"]) for line in lines_of(tmp_path / "E", "fig5")}
    weights = {"0.2": 0.2, "2": None, "10": 10.0, "20": 20.0, "100": 100.0}
    assert found == pytest.approx(
        {row: 100 * planted_miou(Cell("s4net", 4, 3, weight)) for row, weight in weights.items()}
    )


def test_tables_of_one_folder_share_runs(planted, demo_folder, tmp_path):
    fits = planted()
    common = ["--data", demo_folder, "--out", tmp_path / "E", *SMALL, "--seeds", "0", "--labels"]
    call("table2", *common, "4")
    call("table3", *common, "4")
    assert len(fits.began) == 4
    call("fig5", *common, "4")
    call("table4", *common, "3,4")
    assert len(fits.began) == len(set(fits.began)) == 4 + 4 + 2
    call("table4", *common, "3,4", "--seeds", "0,1")
    assert len(fits.began) == 10 + 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_grid_goes_on_where_it_was(planted, demo_folder, tmp_path, monkeypatch, number, code):
    arguments = ["table4", "--data", demo_folder, "--out", tmp_path / "E", "--labels", "3,4", "--seeds", "0", *SMALL]
    monkeypatch.setattr(sys, "argv", ["s4aug-train", "reproduce", *map(str, arguments)])
    fits = planted(on_begin=lambda begun: begun == 3 and os.kill(os.getpid(), number))
    result = call(*arguments, code=code)
    assert f"stopped; go on with: s4aug-train reproduce table4 --data {demo_folder}" in result.stderr
    assert "failed" not in result.stderr
    assert len(fits.began) == 3
    assert sum(line["n"] == "1" for line in lines_of(tmp_path / "E", "table4")) == 2
    rest = planted()
    call(*arguments)
    assert rest.began == [fits.began[2], "s4net-labeled4-seed0"]
    assert all(line["n"] == "1" for line in lines_of(tmp_path / "E", "table4"))


def test_a_run_that_fails_is_named_and_the_others_go_on(planted, demo_folder, tmp_path):
    arguments = ["table2", "--data", demo_folder, "--out", tmp_path / "E", "--labels", 4, "--seeds", "0", *SMALL]
    fits = planted(failing=["supervised-labeled4-seed0"])
    line = failure(*arguments)
    assert "1 run failed: supervised-labeled4-seed0 (the disk is full; free some space)" in line
    assert len(fits.began) == 4
    assert [line["n"] for line in lines_of(tmp_path / "E", "table2")] == ["1", "0", "1", "1"]
    assert "Not finished, and left out: supervised-labeled4-seed0" in (tmp_path / "E/table2/results.md").read_text()
    rest = planted()
    call(*arguments)
    assert rest.began == ["supervised-labeled4-seed0"]


def test_where_all_fail_no_table_is_shown(planted, demo_folder, tmp_path):
    names = [f"s4net-labeled4{weight}-seed0" for weight in ("", *(f"-lambda{w}" for w in ("0.2", "10", "20", "100")))]
    planted(failing=names)
    arguments = ["fig5", "--data", demo_folder, "--out", tmp_path / "E", "--labels", 4, "--seeds", "0", *SMALL]
    assert "5 runs failed" in failure(*arguments)
    assert not (tmp_path / "E" / "fig5").exists()


def test_results_that_cannot_be_written_end_the_grid_in_one_line(planted, demo_folder, tmp_path):
    out = tmp_path / "E"
    arguments = ["table2", "--data", demo_folder, "--out", out, "--labels", 4, "--seeds", "0", *SMALL]
    planted(on_begin=lambda begun: begun == 2 and (out / "table2").rename(out / "x") and (out / "table2").touch())
    assert str(out / "table2") in failure(*arguments)


def test_other_settings_in_one_folder_are_refused(planted, demo_folder, tmp_path):
    planted()
    common = ["--data", demo_folder, "--out", tmp_path / "E", *SMALL, "--seeds", "0", "--labels", "4"]
    call("table2", *common)
    before = sorted((tmp_path / "E").rglob("*"))
    assert "train.steps (was 100000, now 7)" in failure("fig5", *common, "--budget", 7)
    assert "data.val (was 0, now 4)" in failure("table2", *common, "--set", "data.val=4")
    assert sorted((tmp_path / "E").rglob("*")) == before
    call("table2", *common, "--set", "train.pool=map")


def test_other_data_in_one_folder_are_refused(planted, demo_folder, tmp_path):
    from s4aug_train.data.synthetic import Demo, write_demo

    planted()
    other = write_demo(tmp_path / "other", Demo(tiles=12, unlabeled=0, size=64, seed=4))
    more = ["--out", tmp_path / "E", *SMALL, "--seeds", "0", "--labels", "4"]
    call("table2", "--data", demo_folder, *more)
    assert "the data (other tiles" in failure("table2", "--data", other, *more)


def test_a_dry_run_tells_runs_and_time_and_leaves_nothing(planted, demo_folder, tmp_path):
    fits = planted()
    arguments = ["table4", "--data", demo_folder, "--out", tmp_path / "E", "--labels", "3,4", "--budget", 7200, *SMALL]
    told = call(*arguments, "--dry-run", "--jobs", 2).stderr
    assert len(re.findall(r"^\S+-labeled\d-seed\d: step 0 of 7200$", told, re.MULTILINE)) == 12
    # 12 runs of 7200 steps of half a second, two at once; an evaluation of 3 tiles takes less than a second.
    assert re.search(r"12 runs, 0 finished, 2 at once; about 6\.0 h \(supervised 0\.5 s a step", told)
    assert not (tmp_path / "E").exists()
    assert not fits.began


def test_finished_runs_tell_how_long_the_others_take(planted, demo_folder, tmp_path):
    planted(failing=["s4net-labeled4-seed0"])
    arguments = ["table4", "--data", demo_folder, "--out", tmp_path / "E", "--labels", "3,4", "--seeds", "0", *SMALL]
    failure(*arguments)
    told = call(*arguments, "--dry-run").stderr
    # 100,000 steps of 6 crops at 12 a second.
    assert "timing" not in told
    assert "4 runs, 3 finished, 1 at once; about 13.9 h" in told


class TestBadInput:
    """One line with what, where and the cure; nothing begins."""

    @pytest.fixture(autouse=True)
    def fits(self, planted):
        self.fits = planted()
        yield
        assert not self.fits.began

    def test_a_folder_that_is_none(self, tmp_path):
        assert "/nowhere" in failure("table2", "--data", "/nowhere", "--out", tmp_path / "E")
        assert not (tmp_path / "E").exists()

    def test_no_data(self, tmp_path):
        assert "--data is missing" in failure("table2", "--out", tmp_path / "E", code=2)

    def test_no_such_table(self, tmp_path):
        failure("table5", "--data", "demo", "--out", tmp_path / "E", code=2)

    def test_a_file_as_out(self, demo_folder, tmp_path):
        (tmp_path / "E").touch()
        assert "is a file; give a folder" in failure("table2", "--data", demo_folder, "--out", tmp_path / "E")

    def test_an_out_that_cannot_be_made(self, demo_folder, tmp_path):
        (tmp_path / "file").touch()
        out = tmp_path / "file" / "E"
        assert str(out) in failure("table2", "--data", demo_folder, "--out", out, "--labels", 4, *SMALL)

    def test_an_out_that_holds_something_else(self, demo_folder, tmp_path):
        (tmp_path / "letter.txt").touch()
        assert "no grid of reproduce" in failure("table2", "--data", demo_folder, "--out", tmp_path)

    def test_an_out_that_another_call_is_at(self, demo_folder, tmp_path):
        with held(RunFolder(tmp_path / "E")):
            line = failure("table2", "--data", demo_folder, "--out", tmp_path / "E", "--labels", 4, *SMALL)
        assert "another run is writing to" in line

    def test_too_few_tiles(self, demo_folder, tmp_path):
        line = failure("table4", "--data", demo_folder, "--out", tmp_path / "E", *SMALL)
        assert "100 labelled tiles are wanted" in line
        assert line.endswith("use --labels 4")

    def test_several_counts_where_the_table_has_one(self, demo_folder, tmp_path):
        assert "give one" in failure("fig5", "--data", demo_folder, "--out", tmp_path / "E", "--labels", "3,4")

    @pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "0,,x"])
    def test_seeds_that_are_none(self, demo_folder, tmp_path, text):
        assert "whole numbers" in failure("fig5", "--data", demo_folder, "--out", tmp_path, "--seeds", text, code=2)

    def test_a_setting_that_the_grid_decides(self, demo_folder, tmp_path):
        more = ("--set", "data.labeled=3")
        assert "use --labels" in failure("fig5", "--data", demo_folder, "--out", tmp_path / "E", *more)

    def test_a_file_that_cannot_be_read_is_told_once(self, demo_folder, tmp_path):
        import shutil

        copy = shutil.copytree(demo_folder, tmp_path / "copy")
        broken = sorted((copy / "train").glob("*_mask.png"))[3]
        broken.write_bytes(b"no picture")
        line = failure("table2", "--data", copy, "--out", tmp_path / "E", "--labels", 4, *SMALL)
        assert broken.name in line

    def test_a_device_that_is_none(self, demo_folder, tmp_path):
        more = ["--labels", 4, *SMALL, "--device", "cuda:99"]
        assert "cuda:99" in failure("table2", "--data", demo_folder, "--out", tmp_path / "E", *more)
