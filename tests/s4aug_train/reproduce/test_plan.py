"""The settings of the runs of a grid, and what in them is not the paper's."""

from dataclasses import replace

import pytest

from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.errors import ConfigError
from s4aug_train.presets import preset
from s4aug_train.reproduce.grid import SEEDS, Cell, Grid
from s4aug_train.reproduce.plan import Plan, scaled
from s4aug_train.reproduce.survey import Survey

PAPERS = Survey(603, 200, (2448, 2448), 3, DEEPGLOBE.names, "deepglobe")


def plan(table="table2", labels=(100,), seeds=SEEDS, **given):
    settings = {"data.path": "deepglobe", **{key.replace("__", "."): value for key, value in given.items()}}
    return Plan(Grid(table, labels, seeds), settings)


@pytest.mark.parametrize("table", ["table2", "table3", "table4", "fig5"])
def test_on_deepglobe_nothing_differs_from_the_paper(table):
    assert plan(table, (20, 50, 100) if table == "table4" else (100,)).differences(PAPERS) == ()


def test_a_run_has_the_paper_s_settings():
    config, paper = plan().config(Cell("s4net", 100, 2)), preset("paper")
    assert (config.model, config.method) == (paper.model, paper.method)
    assert (config.data.labeled, config.data.unpaired, config.train.seed) == (100, False, 2)
    assert config.train.steps == 100_000


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"train__steps": 4000}, "train.steps 4,000 instead of 100,000"),
        ({"model__encoder": "resnet18"}, "model.encoder resnet18 instead of resnet50"),
        ({"model__weights": "none"}, "model.weights none instead of imagenet"),
        ({"train__precision": "bf16"}, "train.precision bf16 instead of fp32"),
        ({"method__mask": False}, "method.mask False instead of True"),
        ({"train__accumulate": 2}, "train.accumulate 2 instead of 1"),
        ({"data__unlabeled": "more"}, "data.unlabeled more instead of None"),
        ({"labels": (60,)}, "60 labelled tiles instead of 100"),
    ],
)
def test_what_differs_is_told_by_name(given, told):
    assert plan(**given).differences(PAPERS) == (told,)


def test_what_changes_nothing_is_not_told():
    free = {"train__device": "cpu", "train__workers": 0, "train__log_every": 5, "train__pool": "map"}
    assert plan(**free).differences(PAPERS) == ()
    assert plan(**free).common() == plan().common()


def test_fewer_seeds_differ_where_the_paper_has_three():
    assert plan("table4", (20, 50, 100), (0,)).differences(PAPERS) == ("1 seed instead of 3",)
    assert plan("table2", seeds=(0,)).differences(PAPERS) == ()


def test_other_data_differ():
    other = Survey(136, 24, (256, 256), 3, DEEPGLOBE.names, "demo")
    assert plan().differences(other) == (
        "160 made-up tiles of 256 x 256 px instead of DeepGlobe's 803 of 2448 x 2448",
        "24 validation tiles instead of 200",
    )


def test_classes_are_told_by_name_whatever_their_order():
    turned = replace(PAPERS, classes=PAPERS.classes[::-1])
    assert plan().differences(turned) == ()
    other = replace(PAPERS, classes=("road", "roof"))
    (told,) = plan().differences(other)
    assert told.startswith("classes road, roof instead of urban_land, ")


@pytest.mark.parametrize(("steps", "every"), [(100_000, 1000), (4000, 200), (800, 50), (100, 50)])
def test_a_killed_run_loses_little(steps, every):
    cell = Cell("s4net", 100, 0)
    assert plan(train__steps=steps).config(cell).train.checkpoint_every == every
    assert plan(train__steps=steps, train__checkpoint_every=7).config(cell).train.checkpoint_every == 7


def test_settings_of_the_method_are_s4net_s_alone():
    ablation = plan(method__ema=0.9, train__lr=0.02)
    assert ablation.config(Cell("s4net", 100, 0)).method.ema == 0.9
    assert ablation.config(Cell("supervised", 100, 0)).method.ema == 0
    assert ablation.config(Cell("supervised", 100, 0)).train.lr == 0.02


@pytest.mark.parametrize("key", ["data.labeled", "data.split", "train.seed", "method.name", "method.weight"])
def test_what_the_grid_decides_is_refused_with_the_cure(key):
    with pytest.raises(ConfigError, match=f"reproduce sets {key} itself; "):
        Plan(Grid("fig5", (100,)), {key: "1"})


def test_a_wrong_setting_is_told_before_anything_begins():
    with pytest.raises(ConfigError, match="did you mean train.steps"):
        plan(train__stepz=1)


def test_the_scale_is_of_crops_and_windows():
    assert scaled(0.5) == {"train.crop": 256, "train.window": 256, "train.stride": 170}
    assert scaled(1) == {"train.crop": 512, "train.window": 512, "train.stride": 341}
    assert scaled(0.125)["train.crop"] == 64
    for wrong in (0.1, 0, -1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="--scale must be from 0.125"):
            scaled(wrong)
