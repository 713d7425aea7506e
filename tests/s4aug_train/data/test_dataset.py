"""From a folder to tiles by use: what cannot work is told before anything is decoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4aug_train.config import DataConfig
from s4aug_train.data import dataset
from s4aug_train.data.dataset import class_table, list_tiles, load_dataset, load_validation
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.data.split import Split
from s4aug_train.data.synthetic import Demo, write_demo
from s4aug_train.errors import DataError

TABLE = ClassTable((ClassEntry("a", value=1), ClassEntry("b", value=2), ClassEntry("unknown", value=0, ignored=True)))
NAMES = [f"t{i:02d}" for i in range(20)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("S4AUG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path) -> Path:
    """20 pairs and 2 images without a mask, of 8 x 9 px."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name in [*NAMES, "u0", "u1"]:
        save(tmp_path / f"data/images/{name}.png", rng.integers(0, 256, (8, 9, 3)))
    for name in NAMES:
        save(tmp_path / f"data/masks/{name}.png", rng.integers(0, 3, (8, 9)))
    TABLE.write(tmp_path / "data/class_dict.csv")
    return tmp_path / "data"


def save(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array.astype(np.uint8)).save(path)


def config(root: Path, **changes) -> DataConfig:
    return replace(DataConfig(path=str(root), labeled=5, val=3), **changes)


def load(root: Path, seed: int = 0, **changes) -> dataset.Dataset:
    return load_dataset(config(root, **changes), seed, workers=1)


def ids(tiles) -> list[str]:
    return [tile.id for tile in tiles]


@pytest.fixture
def nothing_is_decoded(monkeypatch) -> None:
    monkeypatch.setattr(dataset, "load_tiles", lambda *_, **__: pytest.fail("tiles were decoded"))


def test_every_tile_has_one_use_and_keeps_its_own_pixels(root):
    data = load(root)
    assert (len(data.labeled), len(data.unlabeled), len(data.val)) == (5, 14, 3)
    assert sorted(ids([*data.labeled, *data.unlabeled, *data.val])) == [*NAMES, "u0", "u1"]
    for tile in (*data.labeled, *data.unlabeled, *data.val):
        image = np.asarray(Image.open(root / f"images/{tile.id}.png")).transpose(2, 0, 1)
        np.testing.assert_array_equal(np.asarray(tile.image), image)
    for tile in (*data.labeled, *data.val):
        mask = np.asarray(Image.open(root / f"masks/{tile.id}.png"))
        np.testing.assert_array_equal(np.asarray(tile.labels), np.array([255, 0, 1])[mask])
    assert (data.classes, data.bands, data.normalization.source) == (TABLE, 3, "imagenet")


def test_the_seed_moves_the_labelled_tiles_alone(root):
    one, again, other = load(root, 1), load(root, 1), load(root, 2)
    assert ids(one.labeled) == ids(again.labeled) != ids(other.labeled)
    assert ids(one.val) == ids(other.val) != ids(load(root, 1, split_seed=3).val)


def test_labelled_tiles_are_in_the_unlabelled_pool_on_demand(root):
    data = load(root, include_labeled=True)
    assert set(ids(data.labeled)) <= set(ids(data.unlabeled))
    assert len(data.unlabeled) == 14 + 5


def test_a_written_split_is_followed(root, tmp_path):
    split = Split(("t03", "t01"), ("u1", "t19"), ("t07",))
    split.write(tmp_path / "s.json")
    data = load(root, split=str(tmp_path / "s.json"), labeled=999)
    assert (ids(data.labeled), ids(data.unlabeled), ids(data.val)) == (["t03", "t01"], ["u1", "t19"], ["t07"])
    assert data.split == split


@pytest.mark.parametrize("parts", [(("no",), (), ("t01",)), (("t01",), ("no",), ("t02",)), (("u0",), (), ("t01",))])
def test_a_split_of_tiles_that_are_not_there_is_refused_before_decoding(root, tmp_path, nothing_is_decoded, parts):
    Split(*parts).write(tmp_path / "s.json")
    with pytest.raises(DataError, match=r"s\.json names the tile (no|u0), which the data lacks \(or its mask\)"):
        load(root, split=str(tmp_path / "s.json"))


@pytest.mark.parametrize(
    ("lines", "most"),
    [
        (None, 17),
        (["id,spatial_group,split", *(f"{name},{name},{'val' if name < 't08' else 'train'}" for name in NAMES)], 12),
        # Three tiles are wanted for validation, and groups are whole.
        (["id,spatial_group", *(f"{name},g{i // 10}" for i, name in enumerate(NAMES))], 10),
    ],
)
def test_too_many_labelled_tiles_are_refused_before_decoding(root, monkeypatch, lines, most):
    if lines:
        (root / "tiles.csv").write_text("\n".join(lines))
    assert len(load(root, labeled=most).labeled) == most
    monkeypatch.setattr(dataset, "load_tiles", lambda *_, **__: pytest.fail("tiles were decoded"))
    with pytest.raises(DataError, match=f"{most + 1} labelled tiles are wanted, .* use --labeled {most} or fewer"):
        load(root, labeled=most + 1)


def test_a_tiles_csv_of_other_ids_is_refused_before_decoding(root, nothing_is_decoded):
    (root / "tiles.csv").write_text("id,spatial_group,split\nt00.png,a,val\nt01.png,b,train\n")
    with pytest.raises(DataError, match=r"such as t00\.png, but none is a tile with a mask here, such as t00"):
        load(root)


def test_further_images_are_unlabelled_and_none_is_there_twice_or_a_mask(root, tmp_path):
    (tmp_path / "more").mkdir()
    save(tmp_path / "more/new.png", np.ones((8, 9, 3)))
    (tmp_path / "more/old.png").symlink_to(root / "images/t00.png")
    (tmp_path / "more/mask.png").symlink_to(root / "masks/t00.png")
    data = load(root, unlabeled=f"{tmp_path}/more")
    assert [tile for tile in ids(data.unlabeled) if "new" in tile] == ["unlabeled:new"]
    assert len(data.unlabeled) == 14 + 1
    assert len(load(root, unlabeled=f"{root}/**/*.png").unlabeled) == 14


def test_a_folder_without_a_class_table_is_refused_with_the_cure(root, nothing_is_decoded):
    (root / "class_dict.csv").unlink()
    with pytest.raises(DataError, match="has no class table: give one with --classes FILE"):
        load(root)
    TABLE.write(root / "mine.csv")
    assert class_table(list_tiles(config(root)), config(root, classes=str(root / "mine.csv"))) == TABLE


def test_tiles_skipped_for_their_size_are_in_no_part(root):
    save(root / "masks/t04.png", np.ones((8, 10)))
    with pytest.raises(DataError, match="--mismatch skip"):
        load(root)
    data = load(root, mismatch="skip")
    parts = ids([*data.labeled, *data.unlabeled, *data.val])
    assert len(parts) == 21
    assert "t04" not in parts


def test_a_split_that_names_no_image_of_unlabeled_is_refused_before_decoding(root, tmp_path, nothing_is_decoded):
    (tmp_path / "more").mkdir()
    save(tmp_path / "more" / "new.png", np.zeros((8, 9, 3)))
    given = {"split": str(tmp_path / "s.json"), "unlabeled": str(tmp_path / "more")}
    Split(("t04",), ("u1",), ("t05",)).write(tmp_path / "s.json")
    with pytest.raises(DataError, match=r"names no image of --unlabeled .*more, such as unlabeled:new; make the split"):
        load(root, **given)


def test_a_split_chooses_among_the_images_of_unlabeled(root, tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("one", "two"):
        save(tmp_path / "more" / f"{name}.png", np.zeros((8, 9, 3)))
    Split(("t04",), ("unlabeled:two",), ("t05",)).write(tmp_path / "s.json")
    data = load(root, split=str(tmp_path / "s.json"), unlabeled=str(tmp_path / "more"))
    assert ids(data.unlabeled) == ["unlabeled:two"]


def test_a_split_whose_labelled_tiles_are_all_skipped_is_refused(root, tmp_path):
    save(root / "masks/t04.png", np.ones((8, 10)))
    Split(("t04",), (), ("t05",)).write(tmp_path / "s.json")
    with pytest.raises(DataError, match="leaves no labelled or no validation tile"):
        load(root, split=str(tmp_path / "s.json"), mismatch="skip")


def test_validation_loads_the_named_tiles_in_their_order_and_no_other(root):
    tiles = load_validation(list_tiles(config(root)), config(root), TABLE, ["t09", "t02"], workers=1)
    assert ids(tiles) == ["t09", "t02"]


@pytest.mark.parametrize("missing", ["nowhere", "u0"])
def test_validation_tiles_that_are_not_there_are_refused_before_decoding(root, nothing_is_decoded, missing):
    with pytest.raises(DataError, match=f"lacks 1 of 2 tiles to evaluate .* for example {missing}"):
        load_validation(list_tiles(config(root)), config(root), TABLE, ["t01", missing], workers=1)


def test_images_without_a_mask_can_be_left_out(root):
    assert len(load(root).unlabeled) == 14
    data = load(root, unpaired=False)
    assert not any(tile.startswith("u") for tile in ids(data.unlabeled))
    assert len(data.unlabeled) == 12


def test_tiles_of_different_kinds_are_refused_wherever_they_are(root, tmp_path):
    (tmp_path / "more").mkdir()
    save(tmp_path / "more/new.png", np.ones((8, 9)))
    with pytest.raises(DataError, match="has 1 bands of uint8, tile .* 3 of uint8"):
        load(root, unlabeled=f"{tmp_path}/more")


def test_progress_says_what_is_done(root):
    calls = []
    load_dataset(config(root), 0, workers=1, on_progress=lambda *call: calls.append(call))
    assert calls[-1] == ("decoding tiles", 22, 22)


def test_the_demo_is_made_in_the_cache_once(tmp_path, monkeypatch):
    made = []

    def small(folder, on_progress=None):
        made.append(folder)
        return write_demo(folder, Demo(tiles=3, unlabeled=1, size=32), on_progress)

    monkeypatch.setattr(dataset, "write_demo", small)
    listing = list_tiles(DataConfig(path="demo"), lambda *call: made.append(call))
    assert (len(listing.labelled), len(listing.unlabelled)) == (3, 1)
    assert made[0] == tmp_path / "cache" / "demo"
    assert made[-1] == ("making the demo set", 4, 4)
    before = len(made)
    list_tiles(DataConfig(path="demo"), lambda *call: made.append(call))
    assert len(made) == before + 1


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_files_that_cannot_be_read_are_in_no_part_and_named(root):
    damage(root / "images/t04.png")
    damage(root / "masks/t05.png")
    damage(root / "images/u0.png")
    with pytest.raises(DataError, match="cannot be read"):
        load(root)
    data = load(root, unreadable="skip")
    parts = ids([*data.labeled, *data.unlabeled, *data.val])
    assert sorted(parts) == sorted({*NAMES, "u1"} - {"t04", "t05"})
    assert set(data.left_out) == {str(root / name) for name in ("images/t04.png", "masks/t05.png", "images/u0.png")}
    assert data.skip


def test_a_split_that_names_what_cannot_be_read_is_followed_without_it(root, tmp_path):
    Split(("t03", "t01"), ("u1", "t19"), ("t07", "t08")).write(tmp_path / "s.json")
    for name in ("t03", "u1", "t08"):
        damage(root / f"images/{name}.png")
    data = load(root, split=str(tmp_path / "s.json"), unreadable="skip")
    assert (ids(data.labeled), ids(data.unlabeled), ids(data.val)) == (["t01"], ["t19"], ["t07"])
    assert data.split == Split.read(tmp_path / "s.json")
    damage(root / "images/t01.png")
    with pytest.raises(DataError, match="leaves no labelled or no validation tile"):
        load(root, split=str(tmp_path / "s.json"), unreadable="skip")


@pytest.mark.parametrize(("labeled", "broken", "message"), [(17, 1, "17 labelled .* there are 16"), (5, 20, "no tile")])
def test_too_few_labelled_tiles_left_are_refused(root, labeled, broken, message):
    for name in NAMES[:broken]:
        damage(root / f"masks/{name}.png")
    with pytest.raises(DataError, match=message):
        load(root, labeled=labeled, unreadable="skip")


def test_validation_tiles_that_cannot_be_read_are_left_out_on_demand(root):
    damage(root / "images/t02.png")
    listing, told = list_tiles(config(root)), {}
    tiles = load_validation(listing, config(root), TABLE, ["t09", "t02"], on_unreadable=told.__setitem__, workers=1)
    assert (ids(tiles), list(told)) == (["t09"], [str(root / "images/t02.png")])
    with pytest.raises(DataError, match="no tile to evaluate is left"):
        load_validation(listing, config(root), TABLE, ["t02"], on_unreadable=told.__setitem__, workers=1)
