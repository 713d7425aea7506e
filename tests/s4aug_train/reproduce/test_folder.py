"""The folder of a grid: what it may be, what its runs share, and what came of them."""

import json

import pytest

from s4aug_train.errors import ConfigError, DataError
from s4aug_train.reproduce.folder import GridFolder
from s4aug_train.reproduce.grid import Cell, Grid
from s4aug_train.reproduce.plan import Plan

CELL = Cell("s4net", 100, 0)


def plan(table="table2", **given):
    labels = (20, 100) if table == "table4" else (100,)
    settings = {"data.path": "tiles", "train.steps": 40, **{k.replace("__", "."): v for k, v in given.items()}}
    return Plan(Grid(table, labels, (0,)), settings)


def write_run(folder, cell, config, lines):
    run = folder.run(cell)
    run.path.mkdir(parents=True)
    run.config.write_text(config.to_yaml())
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


def step(number, rate=12.0):
    return {"step": number, "loss": 1.0, "images_per_s": rate}


FINAL = {"step": 40, "miou": 0.5, "iou": {"water": 0.25, "urban_land": None}}


def test_a_folder_is_new_or_a_grid_s(tmp_path):
    folder = GridFolder(tmp_path / "new")
    folder.check()
    folder.begin(plan(), "hash")
    folder.check()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        GridFolder(tmp_path / "file").check()
    with pytest.raises(ConfigError, match="holds something that is no grid"):
        GridFolder(tmp_path).check()


def test_what_a_killed_call_left_behind_is_no_hindrance(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".grid.json.123.ab.tmp").write_text("{")
    GridFolder(tmp_path).check()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"train__steps": 50}, r"train.steps \(was 40, now 50\)"),
        ({"model__encoder": "resnet18"}, r"model.encoder \(was resnet50, now resnet18\)"),
        ({"method__mask": False}, r"method.mask \(was True, now False\)"),
        ({"data__val": 7}, r"data.val \(was 0, now 7\)"),
        ({"train__accumulate": 2}, "train.accumulate"),
    ],
)
def test_other_settings_in_one_folder_are_refused_by_name(tmp_path, changed, named):
    folder = GridFolder(tmp_path)
    folder.begin(plan(), "hash")
    for table in ("table2", "fig5"):
        with pytest.raises(ConfigError, match=named):
            folder.check_common(plan(table, **changed))


def test_a_setting_that_is_newer_than_the_folder_had_its_default(tmp_path):
    folder = GridFolder(tmp_path)
    folder.begin(plan(), "hash")
    content = json.loads(folder.shared.read_text())
    default = content["settings"].pop("method.mask")
    folder.shared.write_text(json.dumps(content))
    folder.check_common(plan())
    with pytest.raises(ConfigError, match=rf"method.mask \(was {default}, now False\)"):
        folder.check_common(plan(method__mask=False))


def test_other_data_in_one_folder_are_refused(tmp_path):
    folder = GridFolder(tmp_path)
    folder.begin(plan(), "hash")
    folder.begin(plan("table4"), "hash")
    with pytest.raises(ConfigError, match="the data"):
        folder.begin(plan(), "another")


def test_where_and_how_fast_may_change(tmp_path):
    folder = GridFolder(tmp_path)
    folder.begin(plan(), "hash")
    folder.begin(plan(train__device="cpu", train__workers=0, data__path="elsewhere"), "hash")
    assert "workers: 0" in folder.settings(CELL).read_text()


def test_a_damaged_grid_json_is_told(tmp_path):
    folder = GridFolder(tmp_path)
    for content in ("{", "[]", '{"settings": 1, "data": "x"}'):
        folder.shared.write_text(content)
        with pytest.raises(ConfigError, match="cannot read .*grid.json"):
            folder.check_common(plan())


def test_a_run_is_finished_with_the_evaluation_of_its_last_step(tmp_path):
    folder, config = GridFolder(tmp_path), plan().config(CELL)
    assert folder.outcome(CELL, config) is None
    lines = [step(20), {**FINAL, "step": 20}, step(40, 24.0), step(40, 6.0)]
    write_run(folder, CELL, config, lines)
    assert folder.outcome(CELL, config) is None
    with folder.run(CELL).metrics.open("a") as file:
        file.write(json.dumps(FINAL) + "\n")
    outcome = folder.outcome(CELL, config)
    assert (outcome.miou, outcome.iou) == (50.0, {"water": 25.0, "urban_land": None})
    assert outcome.step_s == (4 + 2) / 12.0


def test_a_run_of_other_settings_is_never_taken_for_this_one(tmp_path):
    folder, config = GridFolder(tmp_path), plan().config(CELL)
    write_run(folder, CELL, config.updated({"train.lr": 0.5, "train.workers": 0}), [FINAL])
    with pytest.raises(ConfigError, match=r"was trained with train.lr \(was 0.5, now 0.01\)"):
        folder.outcome(CELL, config)


def test_a_validation_set_without_classes_is_told(tmp_path):
    folder, config = GridFolder(tmp_path), plan().config(CELL)
    write_run(folder, CELL, config, [{**FINAL, "miou": None}])
    with pytest.raises(DataError, match="no class of the table occurs in its validation tiles"):
        folder.outcome(CELL, config)


def test_how_far_a_run_is_is_read_from_the_end_alone(tmp_path):
    folder, config = GridFolder(tmp_path), plan().config(CELL)
    assert folder.steps_done(CELL) == 0
    write_run(folder, CELL, config, [{**step(number), "more": "x" * 300} for number in range(1, 1000)])
    assert folder.steps_done(CELL) == 999
    with folder.run(CELL).metrics.open("a") as file:
        file.write('{"step": 10')
    assert folder.steps_done(CELL) == 999
