"""What is looked at before the first run."""

import shutil

import pytest
from PIL import Image

from s4aug_train.data.dataset import load_dataset
from s4aug_train.errors import DataError, UnreadableError, WeightsError
from s4aug_train.presets import configured
from s4aug_train.reproduce.survey import decoded, surveyed


def config(path, **given):
    common = {"model.weights": "none", "data.unpaired": False, "data.labeled": 4}
    return configured({"data.path": str(path), **common, **given})


def test_a_folder_is_counted_without_decoding(demo_folder):
    survey = surveyed(config(demo_folder), [8])
    assert (survey.training, survey.val, survey.size, survey.bands) == (9, 3, (64, 64), 3)


@pytest.mark.parametrize(
    ("labels", "cure"),
    [((20, 50, 100), "--labels 4"), ((4, 9, 100), "--labels 4"), ((3, 8, 50), "--labels 3,8"), ((9,), "--labels 4")],
)
def test_too_few_tiles_are_told_early_with_counts_that_fit(demo_folder, labels, cure):
    with pytest.raises(DataError, match=f"{max(labels)} labelled tiles are wanted.* 9 training tiles.*; use {cure}$"):
        surveyed(config(demo_folder), labels)


def test_the_hash_is_of_tiles_and_validation_tiles(demo_folder, tmp_path):
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    first = decoded(config(demo_folder))
    assert first == decoded(config(copy)) == decoded(config(demo_folder, **{"train.seed": 5, "data.labeled": 3}))
    assert first != decoded(config(demo_folder, **{"data.val": 4}))
    one, other = sorted((copy / "train").glob("*_mask.png"))[:2]
    shutil.copy(one, other)
    assert first != decoded(config(copy))


def test_a_first_tile_without_any_class_is_no_hindrance(demo_folder, tmp_path):
    """Of classes that are rarer than in half of the tiles, an empty tile is nearest to the mean and is drawn first."""
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    colours = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 0, 0)]
    for number, path in enumerate(sorted((copy / "train").glob("*_mask.png"))):
        Image.new("RGB", (64, 64), colours[number % 4]).save(path)
    with pytest.raises(DataError, match="no class of the table occurs"):
        load_dataset(config(copy, **{"data.labeled": 1}).data, 0, workers=0)
    load_dataset(config(copy).data, 0, workers=0)
    decoded(config(copy))


def test_what_cannot_be_read_is_told_before_the_first_run(demo_folder, tmp_path):
    copy = shutil.copytree(demo_folder, tmp_path / "copy")
    broken = sorted((copy / "train").glob("*_sat.jpg"))[5]
    broken.write_bytes(b"no picture")
    with pytest.raises(UnreadableError, match=broken.name):
        decoded(config(copy))
    with pytest.raises(WeightsError, match="no weights file"):
        decoded(config(demo_folder, **{"model.weights": "nowhere.pt"}))
