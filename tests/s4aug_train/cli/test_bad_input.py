"""What is wrong with a call of `fit` or another command, told in one line."""

import json

import numpy as np
import pytest
import torch

from s4aug_train.data.raster import write_image
from tests.s4aug_train.cli.cli_cases import TINY, fit_arguments
from tests.s4aug_train.command import call, failure


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
