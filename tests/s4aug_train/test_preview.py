"""The picture of a perturbation: a function of data, settings and seed, written whole, or one line says why not."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from s4aug_train.cli import main
from s4aug_train.data.raster import write_image
from s4aug_train.errors import ConfigError, DataError
from s4aug_train.presets import configured
from s4aug_train.preview import preview
from tests.s4aug_train.command import call, failure


@pytest.fixture
def picture(demo_folder):
    """A function that makes the picture of settings."""

    def make(**settings):
        return preview(configured({"data.path": str(demo_folder), "train.crop": 64, **settings}))

    return make


def test_it_follows_from_the_seed_and_the_settings(picture):
    first = picture()
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert np.array_equal(first, picture())
    others = [picture(**{"train.seed": 1}), picture(**{"method.degrees": 60.0})]
    assert not any(np.array_equal(first, other) for other in others)


def test_without_a_motion_what_is_undone_is_the_crop(picture):
    still = {"method.degrees": 0.0, "method.translate": 0.0, "method.scale_min": 1.0, "method.scale_max": 1.0}
    shown = picture(**still, **{"train.flips": False})
    # Rows of pictures of 192 px: of the columns, the crop is the first, view 1 the second.
    columns = shown[48:200]
    crop, view = columns[:, 12:204], columns[:, 220:412]
    assert np.abs(crop.astype(int) - view).max() <= 1
    assert np.ptp(crop) > 50


def test_few_tiles_and_tiles_smaller_than_the_crop_are_shown(tmp_path):
    write_image(tmp_path / "images" / "a.png", np.random.default_rng(0).integers(0, 256, (3, 40, 90), np.uint8))
    write_image(tmp_path / "masks" / "a.png", np.zeros((1, 40, 90), np.uint8))
    assert preview(configured({"data.path": str(tmp_path), "train.crop": 64})).shape[2] == 3


def test_tiles_that_cannot_be_read_give_way_where_they_are_to_be_left_out(tmp_path):
    images = [np.random.default_rng(i).integers(0, 256, (3, 70, 70), np.uint8) for i in range(6)]
    for number, image in enumerate(images):
        write_image(tmp_path / "images" / f"{number}.png", image)
    write_image(tmp_path / "masks" / "0.png", np.zeros((1, 70, 70), np.uint8))
    settings = {"data.path": str(tmp_path), "train.crop": 64}
    before = preview(configured(settings))
    (tmp_path / "images" / "6.png").write_bytes(b"no image")
    (tmp_path / "images" / "7.png").write_bytes(b"no image")
    seen = {s: preview(configured({**settings, "data.unreadable": "skip", "train.seed": s})).shape for s in range(5)}
    assert set(seen.values()) == {before.shape}
    with pytest.raises(DataError, match=r"[67]\.png"):
        [preview(configured({**settings, "train.seed": seed})) for seed in range(5)]
    for number in range(6):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 8 tiles can be read, the first: "):
        preview(configured({**settings, "data.unreadable": "skip"}))


def test_a_method_without_two_views_is_told(picture):
    with pytest.raises(ConfigError, match="the method supervised compares no two views; use --method s4net"):
        picture(**{"method.name": "supervised"})


def test_the_command_writes_what_it_says(demo_folder, tmp_path, picture):
    out = tmp_path / "new" / "preview.png"
    result = CliRunner().invoke(main, ["preview", "--data", str(demo_folder), "--crop", "64", "--out", str(out)])
    assert result.exit_code == 0, result.output
    shown = np.asarray(Image.open(out))
    assert np.array_equal(shown, picture())
    assert result.stdout == f"{out}: {shown.shape[1]} x {shown.shape[0]} px\n"


def test_a_preset_shows_what_a_run_of_it_would_see(tmp_path, picture):
    image = np.random.default_rng(0).integers(0, 256, (3, 96, 96), np.uint8)
    write_image(tmp_path / "images" / "a.png", image)
    write_image(tmp_path / "masks" / "a.png", np.zeros((1, 96, 96), np.uint8))
    out = tmp_path / "preview.png"
    call("preview", "--data", tmp_path, "--crop", 64, "--preset", "recommended", "--out", out)
    # The paper's views show nothing beyond the crop.
    plain, wide = (picture(**{"data.path": str(tmp_path), "method.source": source}) for source in ("crop", "tile"))
    assert np.array_equal(np.asarray(Image.open(out)), wide)
    assert not np.array_equal(wide, plain)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--out FILE.png is missing: this terminal cannot show pictures"),
        (["--out", "picture.gif"], 1, "pictures are .jpg, .jpeg or .png, not '.gif'"),
        (["--out", "picture.png", "--set", "method.degrees=x"], 1, "method.degrees must be float, got 'x'"),
        (["--out", "picture.png", "--method", "no_module:make"], 1, "cannot import no_module"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(demo_folder, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["preview", "--data", str(demo_folder), "--crop", "64", *arguments])
    assert result.exit_code == code
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_data_is_wrong_usage_and_an_absent_folder_one_line(tmp_path):
    assert CliRunner().invoke(main, ["preview", "--out", "x.png"]).exit_code == 2
    result = CliRunner().invoke(main, ["preview", "--data", str(tmp_path / "absent"), "--out", "x.png"])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "message"), [("x.gif", "not '.gif'"), ("folder.png", "it is a folder; give a file")])
def test_a_name_that_no_picture_can_have_is_told_before_the_data_are_read(tmp_path, name, message):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a_sat.jpg").write_bytes(b"no picture")
    (tmp_path / "folder.png").mkdir()
    assert message in failure("preview", "--data", data, "--out", tmp_path / name)
