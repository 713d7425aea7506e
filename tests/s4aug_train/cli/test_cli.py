"""The commands as a user types them: what they print, what they leave behind, and how they fail."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from s4aug_train.cli import main
from s4aug_train.data.raster import write_image
from s4aug_train.limits import CHOICES
from s4aug_train.presets import PRESETS

QUICK = ["--preset", "quick", "--weights", "none", "--crop", "64", "--labeled", "4", "--val", "2"]
TINY = [*QUICK, "--set", "train.window=64", "--set", "train.stride=64", "--set", "train.log_every=1"]


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + result.stderr
    assert "Traceback" not in result.output + result.stderr
    return result


def failure(*arguments, code=1):
    """The error line of a command that must fail."""
    result = call(*arguments, code=code)
    lines = [line for line in result.stderr.splitlines() if line.lower().startswith("error")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def fit_arguments(data, out, *more):
    return ["fit", "--data", data, "--out", out, *TINY, *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory, demo_folder, shared_cache):
    """A finished run of 3 steps."""
    out = tmp_path_factory.mktemp("runs") / "first"
    result = call(*fit_arguments(demo_folder, out, "--steps", 3))
    return out, result


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


@pytest.mark.parametrize("what", ["", "checkpoints/last.pt", "checkpoints/best.pt"])
def test_evaluate_takes_a_run_or_a_checkpoint(run, demo_folder, what):
    result = json.loads(call("evaluate", run[0] / what, "--data", demo_folder, "--json").stdout)
    ours = {"miou", "iou", "confusion", "classes", "tiles"}
    assert set(result) == ours | {"intervals", "boundary", "calibration", "ece", "comparison"}
    assert result["comparison"] is None
    low, high = result["intervals"]["miou"]
    assert low <= result["miou"] <= high
    assert result["tiles"] == 2
    assert len(result["confusion"]) == len(result["classes"]) == 6


def test_evaluate_of_the_last_checkpoint_is_the_last_line_of_metrics(run, demo_folder):
    result = json.loads(call("evaluate", run[0], "--data", demo_folder, "--json").stdout)
    last = json.loads((run[0] / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["iou"] == last["iou"]
    assert result["miou"] == last["miou"]


def test_evaluate_uses_the_validation_tiles_of_a_manifest(run, demo_folder, tmp_path):
    manifest, val = tmp_path / "split.json", json.loads((run[0] / "splits.json").read_text())["val"]
    manifest.write_text(json.dumps({"labeled": [], "unlabeled": [], "val": val[:1]}))
    table = call("evaluate", run[0], "--data", demo_folder, "--split", manifest)
    assert "1 tiles" in table.stdout


def test_evaluate_takes_all_labelled_tiles_of_a_folder_that_was_not_trained_on(run, demo_folder, demo_copy):
    found = json.loads(call("evaluate", run[0], "--data", demo_copy, "--split", "all", "--json").stdout)
    assert found["tiles"] == len(list((demo_copy / "train").glob("*_mask.png"))) == 12
    assert "all: 10 of its 12" in failure("evaluate", run[0], "--data", demo_folder, "--split", "all")


def test_evaluate_compares_two_checkpoints_and_writes_what_it_prints(run, demo_folder, tmp_path):
    best, out = run[0] / "checkpoints" / "best.pt", tmp_path / "new" / "e.json"
    both = ["evaluate", run[0], "--data", demo_folder, "--against", best]
    told = json.loads(call(*both, "--json", "--out", out).stdout)
    assert told == json.loads(out.read_text())
    assert told["comparison"]["against"] == str(best)
    assert (told["comparison"]["tiles"], told["comparison"]["shown"]) == (2, False)
    text = call(*both, "--confusion", "--smooth").stdout
    assert "against" in text
    assert "no difference is shown" in " ".join(text.split())
    assert "confusion, % of the pixels" in text


def test_evaluate_averages_views(run, demo_folder):
    plain, flips = (
        json.loads(call("evaluate", run[0], "--data", demo_folder, "--json", *more).stdout)
        for more in ([], ["--tta", "flips"])
    )
    assert plain["ece"] != flips["ece"]
    assert "flips or affine:K" in failure("evaluate", run[0], "--data", demo_folder, "--tta", "flip")


def test_evaluate_refuses_a_checkpoint_that_was_trained_on_the_tiles(run, demo_folder, tmp_path):
    from dataclasses import replace

    from s4aug_train.data.split import Split
    from s4aug_train.engine import Checkpoint

    checkpoint = Checkpoint.read(run[0] / "checkpoints" / "last.pt")
    split = checkpoint.split
    turned = Split((*split.labeled[1:], split.val[0]), split.unlabeled, (*split.val[1:], split.labeled[0]))
    replace(checkpoint, split=turned).write(tmp_path / "other.pt")
    line = failure("evaluate", run[0], "--data", demo_folder, "--against", tmp_path / "other.pt")
    assert (
        f"1 of its 2 validation tiles, for example {split.val[0]}, were trained on by {tmp_path / 'other.pt'}" in line
    )


def test_evaluate_refuses_settings_that_have_no_say(run, demo_folder):
    line = failure("evaluate", run[0], "--data", demo_folder, "--set", "model.encoder=resnet50")
    assert "model.encoder has no say in an evaluation: it is resnet18 in the checkpoint" in line
    assert "train.window" in line
    # What says the same as the checkpoint is no harm.
    call("evaluate", run[0], "--data", demo_folder, "--set", "model.encoder=resnet18", "--set", "train.stride=32")


def test_evaluate_tells_a_wrong_path(run, demo_folder, tmp_path):
    assert "does not exist" in failure("evaluate", run[0], "--data", demo_folder, "--against", tmp_path / "no")
    assert "is a folder" in failure("evaluate", run[0], "--data", demo_folder, "--out", tmp_path)
    assert "cannot write" in failure("evaluate", run[0], "--data", demo_folder, "--out", "/proc/e.json")


def test_evaluate_refuses_tiles_that_were_trained_on(run, demo_folder, tmp_path):
    manifest, split = tmp_path / "split.json", json.loads((run[0] / "splits.json").read_text())
    manifest.write_text(json.dumps({"labeled": [], "unlabeled": [], "val": split["val"] + split["labeled"][:1]}))
    line = failure("evaluate", run[0], "--data", demo_folder, "--split", manifest)
    assert split["labeled"][0] in line
    assert "trained on" in line


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


def start(arguments, log):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "s4aug_train", *map(str, arguments)]
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def wait_for_steps(out, steps, process):
    """Until metrics.jsonl holds so many steps."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be stopped"
        metrics = out / "metrics.jsonl"
        if metrics.exists() and metrics.read_text().count('"loss"') >= steps:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get so far")


def call_with_one_thread(*arguments):
    """In this process, to the bits of one that `start` began."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return call(*arguments)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, demo_folder, shared_cache):
    out = tmp_path_factory.mktemp("whole") / "run"
    call_with_one_thread(*fit_arguments(demo_folder, out, *LONG))
    return torch.load(out / "checkpoints/last.pt", weights_only=True)


LONG = ["--steps", 16, "--set", "train.checkpoint_every=5", "--set", "train.evaluate_every=16"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_to_the_same_weights(demo_folder, tmp_path, uninterrupted, number, code):
    out, log = tmp_path / "run", tmp_path / "log"
    arguments = fit_arguments(demo_folder, out, *LONG)
    with start(arguments, log) as process:
        wait_for_steps(out, 6, process)
        process.send_signal(number)
        assert process.wait(120) == code, log.read_text()
    stopped = torch.load(out / "checkpoints/last.pt", weights_only=True)["step"]
    assert 0 < stopped < 16
    assert f"s4aug-train fit --out {out} --resume" in log.read_text()
    call_with_one_thread("fit", "--out", out, "--resume")
    finished = torch.load(out / "checkpoints/last.pt", weights_only=True)
    assert finished["step"] == 16
    for name, value in uninterrupted["network"].items():
        assert torch.equal(value, finished["network"][name]), name
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 17))


def test_a_run_killed_before_its_first_checkpoint_begins_anew(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((run[0] / "config.yaml").read_text())
    call("fit", "--out", tmp_path / "run", "--resume")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_a_copied_checkpoint_goes_on_in_the_folder_that_is_named(run, tmp_path):
    copy = tmp_path / "backup" / "last.pt"
    copy.parent.mkdir()
    copy.write_bytes((run[0] / "checkpoints" / "last.pt").read_bytes())
    assert "--out" in failure("fit", "--resume", copy)
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    assert "finished before" in call("fit", "--resume", copy, "--out", tmp_path / "next").stdout


def test_resume_falls_back_to_the_best_checkpoint(run, tmp_path):
    import shutil

    copy = shutil.copytree(run[0], tmp_path / "copy")
    for name in ("last.pt", "previous.pt"):
        (copy / "checkpoints" / name).unlink()
    call("fit", "--out", copy, "--resume")
    steps = [json.loads(line)["step"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 3


def test_overwrite_keeps_the_old_run_until_the_new_one_is_ready(demo_folder, tmp_path):
    call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 1))
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    failure(*fit_arguments(demo_folder / "typo", tmp_path / "run", "--overwrite"))
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before
    call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 2, "--overwrite"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]


def test_resume_auto_begins_where_there_is_nothing(demo_folder, tmp_path):
    call(*fit_arguments(demo_folder, tmp_path / "run", "--steps", 1, "--resume", "auto"))
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_resuming_a_finished_run_says_so(run):
    result = call("fit", "--out", run[0], "--resume")
    assert "finished before" in result.stdout


def test_resume_refuses_another_setting_by_name(run, demo_folder):
    line = failure("fit", "--out", run[0], "--resume", "--set", "train.lr=0.5")
    assert "train.lr (was 0.01, now 0.5)" in line


class TestBadInput:
    """One line with what, where and the cure; exit 1, or 2 for wrong usage."""

    def test_missing_folder(self, tmp_path):
        assert "/nowhere" in failure("fit", "--data", "/nowhere", "--out", tmp_path / "r", *TINY)

    def test_empty_folder(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert str(tmp_path / "empty") in failure("fit", "--data", tmp_path / "empty", "--out", tmp_path / "r", *TINY)

    def test_no_data_is_wrong_usage(self, tmp_path):
        result = call("fit", "--out", tmp_path / "r", code=2)
        assert "--data is missing" in result.stderr

    def test_an_unknown_method_is_wrong_usage_and_the_nearest_is_named(self, demo_folder, tmp_path):
        assert "did you mean s4net?" in failure(
            *fit_arguments(demo_folder, tmp_path / "r", "--method", "s4ent"), code=2
        )

    def test_unknown_option_is_wrong_usage(self):
        call("fit", "--nonsense", code=2)

    def test_more_labels_than_tiles_is_told_before_decoding(self, demo_folder, tmp_path, monkeypatch):
        monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))
        line = failure(*fit_arguments(demo_folder, tmp_path / "r", "--labeled", 1000))
        assert "1000 labelled tiles are wanted" in line
        assert not (tmp_path / "cache").exists()

    def test_size_mismatch_names_file_and_option(self, tmp_path):
        data = make_pairs(tmp_path, count=8)
        write_image(data / "masks" / "3.png", np.zeros((3, 63, 64), np.uint8))
        line = failure(*fit_arguments(data, tmp_path / "r", "--classes", tmp_path / "classes.csv"))
        assert "3.png" in line
        assert "--mismatch crop" in line

    @pytest.mark.parametrize("choice", ["crop", "skip"])
    def test_size_mismatch_can_be_lived_with(self, tmp_path, choice):
        data = make_pairs(tmp_path, count=8)
        write_image(data / "masks" / "3.png", np.zeros((3, 63, 64), np.uint8))
        more = ["--classes", tmp_path / "classes.csv", "--mismatch", choice, "--steps", 1]
        call(*fit_arguments(data, tmp_path / "r", *more))
        split = json.loads((tmp_path / "r" / "splits.json").read_text())
        ids = {tile for part in ("labeled", "unlabeled", "val") for tile in split[part]}
        assert ("3" in ids) == (choice == "crop")

    def test_unknown_colours_ask_for_a_class_table(self, tmp_path):
        data = make_pairs(tmp_path, count=6)
        assert "--classes FILE" in failure(*fit_arguments(data, tmp_path / "r"))

    def test_truncated_jpeg_is_named(self, demo_copy, tmp_path):
        victim = next((demo_copy / "train").glob("*_sat.jpg"))
        victim.write_bytes(victim.read_bytes()[:600])
        assert victim.name in failure(*fit_arguments(demo_copy, tmp_path / "r"))

    def test_truncated_jpegs_can_be_lived_with_and_are_named(self, demo_copy, tmp_path):
        victims = sorted((demo_copy / "train").glob("*_sat.jpg"))[:2]
        for victim in victims:
            victim.write_bytes(victim.read_bytes()[:600])
        more = ["--set", "data.unreadable=skip"]
        call(*fit_arguments(demo_copy, tmp_path / "r", *more, "--steps", 1))
        result = call("split", "--data", demo_copy, "--labeled", 4, "--out", tmp_path / "s.json", *more)
        for text in ((tmp_path / "r" / "log.txt").read_text(), result.stderr):
            assert "2 that cannot be read" in text
            assert all(str(victim) in text for victim in victims)
        split = json.loads((tmp_path / "r" / "splits.json").read_text())
        ids = {tile for part in ("labeled", "unlabeled", "val") for tile in split[part]}
        assert not ids & {victim.name.removesuffix("_sat.jpg") for victim in victims}
        lost = demo_copy / "train" / f"{split['val'][0]}_sat.jpg"
        lost.write_bytes(b"")
        assert lost.name in failure("evaluate", tmp_path / "r", "--set", "data.unreadable=error")
        result = call("evaluate", tmp_path / "r", "--json")
        assert json.loads(result.stdout)["tiles"] == len(split["val"]) - 1
        assert f"{lost} is empty" in result.stderr

    def test_existing_out_is_not_touched(self, run, demo_folder):
        before = (run[0] / "checkpoints/last.pt").stat().st_mtime_ns
        assert "--overwrite" in failure(*fit_arguments(demo_folder, run[0], "--steps", 1))
        assert (run[0] / "checkpoints/last.pt").stat().st_mtime_ns == before

    def test_checkpoint_of_other_classes(self, run, tmp_path):
        data = make_pairs(tmp_path, count=6)
        line = failure("evaluate", run[0], "--data", data, "--classes", tmp_path / "classes.csv")
        assert "6 classes" in line
        assert "has 2" in line

    def test_unknown_setting_names_the_nearest(self, demo_folder, tmp_path):
        line = failure(*fit_arguments(demo_folder, tmp_path / "r", "--set", "train.stepz=1"))
        assert "did you mean train.steps?" in line

    def test_imagenet_without_internet(self, demo_folder, tmp_path, monkeypatch):
        from urllib.error import URLError

        from torchvision.models import _api

        def offline(*args, **kwargs):
            raise URLError("offline")

        monkeypatch.setattr(_api, "load_state_dict_from_url", offline)
        line = failure(*fit_arguments(demo_folder, tmp_path / "r", "--weights", "imagenet"))
        assert "--weights none" in line

    def test_missing_gpu(self, demo_folder, tmp_path):
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        assert "--device cpu" in failure(*fit_arguments(demo_folder, tmp_path / "r", "--device", "cuda"))

    def test_a_set_without_any_labelled_pixel_is_refused(self, tmp_path):
        data = make_pairs(tmp_path, count=6, color=(0, 0, 0))
        assert "nothing to learn" in failure(
            *fit_arguments(data, tmp_path / "r", "--classes", tmp_path / "classes.csv")
        )

    def test_all_ignored_crops_train_to_zero_loss(self, tmp_path):
        data = make_pairs(tmp_path, count=6, color=(0, 0, 0))
        for mask in (data / "masks").iterdir():
            image = np.zeros((3, 300, 300), np.uint8)
            image[0, 0, 0] = 255  # one labelled pixel, which crops of 64 px hardly meet
            mask.unlink()
            write_image(mask, image)
            write_image(data / "images" / mask.name, image)
        more = ["--classes", tmp_path / "classes.csv", "--steps", 1, "--method", "supervised"]
        call(*fit_arguments(data, tmp_path / "r", *more))
        lines = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
        assert lines[0]["loss"] == 0

    def test_files_that_may_hold_work_are_not_overwritten(self, demo_folder, tmp_path):
        mine = tmp_path / "mine.csv"
        mine.write_text("name,value\nforest,1\n")
        assert "exists" in failure("split", "--data", demo_folder, "--labeled", 3, "--out", mine)
        assert "exists" in failure("doctor", "--data", demo_folder, "--write-classes", mine)
        assert mine.read_text() == "name,value\nforest,1\n"

    def test_names_in_brackets_are_shown_as_they_are(self, tmp_path):
        data = make_pairs(tmp_path, count=8)
        (tmp_path / "classes.csv").write_text("name,r,g,b\n[/x],255,0,0\n[red]a[/red],255,255,255\n")
        result = call(*fit_arguments(data, tmp_path / "r", "--classes", tmp_path / "classes.csv", "--steps", 1))
        assert "[/x]" in result.stdout
        assert "[red]a[/red]" in result.stdout

    @pytest.mark.parametrize("setting", ["train.lr=inf", "method.weight=1e999", "train.crop=1000000"])
    def test_absurd_settings_are_refused(self, demo_folder, tmp_path, setting):
        assert setting.split("=")[0] in failure(*fit_arguments(demo_folder, tmp_path / "r", "--set", setting))

    def test_a_key_twice_in_the_config_is_refused(self, demo_folder, tmp_path):
        (tmp_path / "c.yaml").write_text("train: {lr: 0.1}\ntrain: {steps: 1}\n")
        more = ["--config", tmp_path / "c.yaml"]
        assert "comes twice" in failure(*fit_arguments(demo_folder, tmp_path / "r", *more))

    def test_read_only_out(self, demo_folder):
        assert "cannot write" in failure(*fit_arguments(demo_folder, "/proc/s4aug"))


@pytest.fixture
def demo_copy(demo_folder, tmp_path):
    import shutil

    return shutil.copytree(demo_folder, tmp_path / "copy")


def make_pairs(tmp_path, count, color=(255, 0, 0)):
    """A folder images/ + masks/ of 64 px, and a class table of two classes beside it."""
    rng = np.random.default_rng(0)
    for i in range(count):
        write_image(tmp_path / "data" / "images" / f"{i}.png", rng.integers(0, 256, (3, 64, 64)).astype(np.uint8))
        mask = np.broadcast_to(np.array(color, np.uint8)[:, None, None], (3, 64, 64)).copy()
        mask[:, :, 32:] = mask[:, :, 32:] if color == (0, 0, 0) else 255
        write_image(tmp_path / "data" / "masks" / f"{i}.png", mask)
    (tmp_path / "classes.csv").write_text("name,r,g,b\nred,255,0,0\nwhite,255,255,255\nunknown,0,0,0\n")
    return tmp_path / "data"


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
