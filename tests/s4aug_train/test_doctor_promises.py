"""What the doctor says of training is what training does."""

import json

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image

import s4aug_train
from s4aug_train.cli import main
from s4aug_train.config import DataConfig
from s4aug_train.data.dataset import load_dataset, with_further
from s4aug_train.data.layouts import find_tiles
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.doctor import inspect
from s4aug_train.errors import DataError
from tests.s4aug_train.command import call, failure

TABLE = ClassTable((ClassEntry("background", value=0), ClassEntry("building", value=1)))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    """Twelve pairs of 20 x 30 px; masks hold 0 and 1."""
    rng, root = np.random.default_rng(0), tmp_path / "data"
    for number in range(12):
        save(root / f"images/{number}.png", rng.integers(0, 256, (20, 30, 3)).astype(np.uint8))
        save(root / f"masks/{number}.png", rng.integers(0, 2, (20, 30)).astype(np.uint8))
    TABLE.write(root / "class_dict.csv")
    return root


def said(report):
    return " | ".join(f"{problem.what}; {problem.cure}" for problem in report.problems)


def test_classes_that_the_files_call_nodata_are_named(folder):
    mask = np.asarray(Image.open(folder / "masks" / "3.png"))
    (folder / "masks" / "3.png").unlink()
    shape = {"driver": "GTiff", "count": 1, "height": 20, "width": 30, "dtype": "uint8", "nodata": 0}
    place = {"crs": "EPSG:32652", "transform": rasterio.Affine.translation(5e5, 4e6)}
    with rasterio.open(folder / "masks" / "3.tif", "w", **shape, **place) as dataset:
        dataset.write(mask[None])
    count = int((mask == 0).sum())
    report = inspect(find_tiles(folder), TABLE)
    assert report.ok
    assert f"{count} mask pixels of classes are nodata by their files and count as ignored: background in 1" in said(
        report
    )
    assert report.classes[0].pixels == sum((np.asarray(Image.open(p)) == 0).sum() for p in folder.glob("masks/*.png"))
    # Where nothing is known of classes, it is no value to learn.
    alone = inspect(find_tiles(folder), None)
    assert sum(seen.pixels for seen in alone.observed) == 12 * 600 - count


@pytest.mark.parametrize("entries", [[("building", False)], [("background", True), ("building", False)]])
def test_a_table_of_one_class_is_refused_by_doctor_and_fit(folder, entries):
    values = {"background": 0, "building": 1}
    ClassTable(tuple(ClassEntry(n, value=values[n], ignored=i) for n, i in entries)).write(folder / "class_dict.csv")
    result = CliRunner().invoke(main, ["doctor", "--data", str(folder)])
    assert result.exit_code == 1
    assert "building is the only class of the table" in result.output
    with pytest.raises(DataError, match="building is the only class of the table.* give what is around it a class"):
        load_dataset(DataConfig(path=str(folder), labeled=4), 0, workers=0)


def test_one_class_of_datasets_in_python_is_refused():
    image = np.zeros((3, 8, 8), np.uint8)
    tiles = [(image, np.zeros((8, 8), np.uint8))]
    with pytest.raises(DataError, match="field is the only class"):
        s4aug_train.OwnData(("field",), tiles, tiles).dataset()


@pytest.mark.parametrize(("option", "damage"), [("mismatch", "size"), ("unreadable", "content")])
def test_pairs_that_training_leaves_out_are_not_counted(folder, option, damage):
    for number in range(4):
        if damage == "size":
            save(folder / f"masks/{number}.png", np.zeros((19, 30), np.uint8))
        else:
            (folder / f"masks/{number}.png").write_bytes(b"no mask")
    config = DataConfig(path=str(folder), labeled=7, **{option: "skip"})
    report = inspect(find_tiles(folder), TABLE, labeled=7, config=config)
    assert (report.training, report.validation) == (6, 2)
    assert not report.ok
    told = "7 labelled tiles are wanted, but there are 6 training tiles with a mask"
    assert told in said(report)
    with pytest.raises(DataError, match=told):
        load_dataset(config, 0, workers=0)
    assert inspect(find_tiles(folder), TABLE, labeled=6, config=config).ok
    assert len(load_dataset(DataConfig(**{**vars(config), "labeled": 6}), 0, workers=0).labeled) == 6


def test_where_all_would_be_labelled_it_is_told(folder):
    told = "with 9 labelled tiles none is left without label"
    assert told in said(inspect(find_tiles(folder), TABLE, labeled=9))
    assert told not in said(inspect(find_tiles(folder), TABLE, labeled=8))
    assert "give fit --labeled 8 or fewer" in said(inspect(find_tiles(folder), TABLE))
    save(folder / "images/more.png", np.zeros((20, 30, 3), np.uint8))
    save(folder.parent / "far/b.png", np.zeros((20, 30, 3), np.uint8))
    assert told not in said(inspect(find_tiles(folder), TABLE, labeled=9))
    alone = DataConfig(unpaired=False)
    assert told in said(inspect(find_tiles(folder), TABLE, labeled=9, config=alone))
    assert told in said(inspect(find_tiles(folder), TABLE, config=DataConfig(labeled=9, unpaired=False)))
    further = with_further(find_tiles(folder), DataConfig(unlabeled=str(folder.parent / "far")))
    assert told not in said(inspect(further, TABLE, labeled=9, config=alone))
    assert "but there are 9 training" in failure("split", "--data", folder, "--labeled", 10, "--out", folder / "s.json")
    result = CliRunner().invoke(main, ["doctor", "--data", str(folder), "--set", "data.labeled=10"])
    assert (result.exit_code, "but there are 9 training" in " ".join(result.output.split())) == (1, True)
    assert "leave out data.split" in failure("doctor", "--data", folder, "--set", "data.split=s.json")


def test_images_that_are_numbers_of_a_palette_are_refused(folder):
    Image.open(folder / "images" / "5.png").quantize(16).save(folder / "images" / "5.png")
    report = inspect(find_tiles(folder), TABLE)
    assert "5.png holds numbers of a palette: convert it to RGB" in said(report)
    with pytest.raises(DataError, match=r"5\.png holds numbers of a palette: convert it to RGB"):
        load_dataset(DataConfig(path=str(folder), labeled=4), 0, workers=0)


def test_groups_are_those_that_fit_holds_out(folder, tmp_path):
    lines = ["id,spatial_group", *(f"{number},g{number // 2}" for number in range(12))]
    (folder / "tiles.csv").write_text("\n".join(lines) + "\n")
    held = {}
    for seed in range(4):
        options = ["--data", folder, "--set", f"data.split_seed={seed}"]
        report = json.loads(call("doctor", *options, "--json").stdout)
        out = tmp_path / f"{seed}.json"
        call("split", *options, "--labeled", 4, "--out", out)
        val = json.loads(out.read_text())["val"]
        assert report["held_out"] == sorted({f"g{int(tile) // 2}" for tile in val})
        held[seed] = tuple(report["held_out"])
    assert len(set(held.values())) > 1
    assert "data.nothing" in failure("doctor", "--data", folder, "--set", "data.nothing=1")


def test_groups_of_patterns_are_folders(tmp_path):
    for scene in ("a", "b"):
        for number in range(2):
            save(tmp_path / f"scenes/{scene}/{number}.png", np.zeros((8, 8, 3), np.uint8))
            save(tmp_path / f"truth/{scene}/{number}.png", np.zeros((8, 8), np.uint8))
    patterns = ["--image-pattern", "scenes/{scene}/{n}.png", "--mask-pattern", "truth/{scene}/{n}.png"]
    out = tmp_path / "groups.csv"
    CliRunner().invoke(main, ["doctor", "--data", str(tmp_path), *patterns, "--write-groups", str(out)])
    groups = dict(line.split(",") for line in out.read_text().splitlines()[1:])
    assert groups == {f"{scene}_{number}": f"scenes/{scene}" for scene in "ab" for number in range(2)}
