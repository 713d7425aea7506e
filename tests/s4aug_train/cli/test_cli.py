"""The commands as a user types them: what they print, and what they leave behind."""

import json

import pytest
import torch
import yaml

from s4aug_train.limits import CHOICES
from s4aug_train.presets import PRESETS
from tests.s4aug_train.cli.cli_cases import fit_arguments
from tests.s4aug_train.command import call


def test_fit_leaves_a_whole_run_folder_and_prints_a_table(run):
    out, result = run
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    expected = {"config.yaml", "splits.json", "env.json", "metrics.jsonl", "log.txt"}
    assert names == expected | {f"checkpoints/{name}.pt" for name in ("last", "previous", "best")}
    for name in ("urban_land", "agriculture_land", "rangeland", "forest_land", "water", "barren_land"):
        assert name in result.stdout
    assert str(out) in result.stdout


def test_metrics_have_the_fields_that_are_promised(run):
    lines = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "miou" in line]
    promised = "step loss loss_supervised loss_consistency lambda valid_fraction lr images_per_s data_wait"
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert all(set(promised.split()) <= set(line) for line in steps)
    assert all({"step", "miou", "iou"} == set(line) for line in evaluations)
    assert all(0 < line["valid_fraction"] < 1 for line in steps)


def test_the_resolved_config_and_split_are_written(run):
    config = yaml.safe_load((run[0] / "config.yaml").read_text())
    assert config["method"]["name"] == "s4net"
    assert config["model"] == {"factory": None, "encoder": "resnet18", "weights": "none"}
    assert config["train"]["steps"] == 3
    split = json.loads((run[0] / "splits.json").read_text())
    assert (len(split["labeled"]), len(split["val"])) == (4, 2)
    assert len(split["unlabeled"]) == 12 - 6 + 3


def test_a_run_without_a_terminal_logs_plain_lines(run):
    log = (run[0] / "log.txt").read_text()
    assert "step 3/3" in log
    assert "tiles (" in log
    assert "unlabelled" in log
    assert "\x1b[" not in log


def test_split_writes_a_manifest_that_fit_takes(demo_folder, tmp_path):
    manifest = tmp_path / "split.json"
    call("split", "--data", demo_folder, "--labeled", 3, "--val", 1, "--out", manifest)
    more = ["--preset", "quick", "--weights", "none", "--crop", "64", "--steps", 1]
    call("fit", "--data", demo_folder, "--out", tmp_path / "run", *more, "--split", manifest)
    assert "--labeled" in call(*fit_arguments(demo_folder, tmp_path / "r2", "--split", manifest), code=2).stderr
    used, drawn = (json.loads(path.read_text()) for path in (tmp_path / "run" / "splits.json", manifest))
    assert used["hash"] == drawn["hash"]
    assert len(used["labeled"]) == 3


def test_a_second_run_of_one_seed_has_the_same_weights(run, demo_folder, tmp_path):
    call(*fit_arguments(demo_folder, tmp_path / "again", "--steps", 3))
    first, second = (torch.load(p / "checkpoints/last.pt", weights_only=True) for p in (run[0], tmp_path / "again"))
    for name, value in first["network"].items():
        assert torch.equal(value, second["network"][name]), name


@pytest.mark.parametrize("method", [name for name in CHOICES["method.name"] if name != "s4net"])
def test_every_method_runs_to_the_end(demo_folder, tmp_path, method):
    result = call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 2, "--method", method))
    assert f"{method} after 2 steps" in result.stdout
    call("evaluate", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("method", CHOICES["method.name"])
def test_every_method_learns_something_on_real_tiles(real_data, few_real_tiles, tmp_path, method):
    out = tmp_path / "run"
    data = ["--data", real_data / "deepglobe512", "--split", few_real_tiles, "--out", out]
    quick = ["--preset", "quick", "--weights", "none", "--set", "train.log_every=10", "--set", "method.semi_start=0.5"]
    call("fit", *data, *quick, "--method", method, "--steps", 40, "--crop", 96)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss_supervised"] for line in lines if "loss_supervised" in line]
    assert losses[-1] < losses[0]
    assert lines[-1]["miou"] > 0.02


@pytest.fixture(scope="module")
def few_real_tiles(real_data, tmp_path_factory, shared_cache):
    """A manifest of some DeepGlobe tiles: 60 labelled, 60 unlabelled, 12 to validate on."""
    path = tmp_path_factory.mktemp("split") / "few.json"
    call("split", "--data", real_data / "deepglobe512", "--labeled", 60, "--out", path)
    split = json.loads(path.read_text())
    del split["hash"]
    path.write_text(json.dumps({**split, "unlabeled": split["unlabeled"][:60], "val": split["val"][:12]}))
    return path


def test_help_shows_every_command_and_preset():
    text = call("--help").stdout
    for command in ("fit", "evaluate", "doctor", "split", "demo-data"):
        assert command in text
    text = call("fit", "--help").stdout
    assert all(name in text for name in (*PRESETS, *CHOICES["method.name"], "--model", "--compile", "--tensorboard"))


def test_the_parent_of_the_cache_may_hold_spaces_and_umlauts(demo_copy, tmp_path, monkeypatch):
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "zwischen speicher ä"))
    moved = demo_copy.rename(tmp_path / "kacheln ü 1")
    call(*fit_arguments(moved, tmp_path / "lauf ß", "--steps", 1))


def test_a_full_size_deepglobe_pair_trains_and_evaluates(real_data, tmp_path):
    more = ["--steps", 1, "--labeled", 1, "--val", 1, "--batch-labeled", 1, "--batch-unlabeled", 1]
    call(
        *fit_arguments(
            real_data / "deepglobe2448",
            tmp_path / "r",
            *more,
            "--set",
            "train.window=1224",
            "--set",
            "train.stride=1224",
        )
    )
    last = json.loads((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()[-1])
    assert sum(value is not None for value in last["iou"].values()) > 0
