import os
from pathlib import Path

import pytest

from s4aug_train.data.layouts import Listing, TileFile, choose_classes, find_tiles, find_unlabeled
from s4aug_train.data.palette import DEEPGLOBE
from s4aug_train.errors import DataError

DATA = Path(os.environ.get("S4AUG_DATA", Path(__file__).parents[4] / "shared" / "data"))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def pairs(listing: Listing) -> dict[str, tuple[str, str | None]]:
    def relative(path: Path | None) -> str | None:
        return path and path.relative_to(listing.root).as_posix()

    return {tile.id: (relative(tile.image), relative(tile.mask)) for tile in listing.tiles}


def test_deepglobe_official(tmp_path):
    touch(tmp_path, "train/2_sat.jpg", "train/2_mask.png", "train/10_sat.jpg", "train/10_mask.png")
    touch(tmp_path, "train/7_sat.jpg", "train/8_mask.png", "valid/2_sat.jpg", "test/5_sat.jpg", "metadata.csv")
    touch(tmp_path, "train/.9_sat.jpg", "train/2_sat.jpg.aux.xml", "__MACOSX/train/2_sat.jpg")
    listing = find_tiles(tmp_path)
    assert pairs(listing) == {
        "10": ("train/10_sat.jpg", "train/10_mask.png"),
        "2": ("train/2_sat.jpg", "train/2_mask.png"),
        "7": ("train/7_sat.jpg", None),
        "test/5": ("test/5_sat.jpg", None),
        "valid/2": ("valid/2_sat.jpg", None),
    }
    assert [tile.id for tile in listing.labelled] == ["10", "2"]
    assert [tile.id for tile in listing.unlabelled] == ["7", "test/5", "valid/2"]
    assert listing.orphan_masks == (tmp_path / "train/8_mask.png",)
    assert listing.deepglobe
    assert "DeepGlobe" in listing.layout
    assert choose_classes(listing) == DEEPGLOBE


def test_deepglobe_official_from_its_train_folder(tmp_path):
    touch(tmp_path, "train/2_sat.jpg", "train/2_mask.png")
    listing = find_tiles(tmp_path / "train")
    assert pairs(listing) == {"2": ("2_sat.jpg", "2_mask.png")}
    assert listing.deepglobe


@pytest.mark.parametrize("suffixes", [("_sat", "_mask"), ("", "")])
@pytest.mark.parametrize("top", ["", "data/"])
def test_deepglobe_in_training_and_test_folders(tmp_path, top, suffixes):
    sat, mask = suffixes
    for part in ("training_data", "test_data"):
        for number in ("11", "12"):
            touch(tmp_path, f"{top}{part}/images/{number}{sat}.jpg", f"{top}{part}/masks/{number}{mask}.png")
    listing = find_tiles(tmp_path)
    assert [tile.id for tile in listing.labelled] == ["11", "12", "test_data/11", "test_data/12"]
    assert pairs(listing)["11"] == (
        f"{top}training_data/images/11{sat}.jpg",
        f"{top}training_data/masks/11{mask}.png",
    )
    assert listing.deepglobe


def test_deepglobe_in_sat_and_label(tmp_path):
    touch(
        tmp_path,
        "Sat/11_sat.jpg",
        "Label/11_mask.png",
        "Sat/12_sat.jpg",
        "Label/12_mask.png",
        "Sat/13_sat.jpg",
    )
    listing = find_tiles(tmp_path)
    assert pairs(listing) == {
        "11": ("Sat/11_sat.jpg", "Label/11_mask.png"),
        "12": ("Sat/12_sat.jpg", "Label/12_mask.png"),
        "13": ("Sat/13_sat.jpg", None),
    }
    assert listing.deepglobe


def test_numbered_tiles_of_another_kind_are_not_taken_for_deepglobe(tmp_path):
    touch(tmp_path, "images/1.tif", "masks/1.tif")
    assert not find_tiles(tmp_path).deepglobe
    touch(tmp_path / "b", "images/1.jpg", "masks/1.png")
    assert not find_tiles(tmp_path / "b").deepglobe
    assert choose_classes(find_tiles(tmp_path / "b")) is None


@pytest.mark.parametrize("image_folder", ["images", "Image", "IMGS", "img", "sat"])
@pytest.mark.parametrize("mask_folder", ["masks", "Mask", "LABELS", "label", "gt", "annotations"])
def test_a_folder_of_images_beside_one_of_masks(tmp_path, image_folder, mask_folder):
    touch(tmp_path, f"{image_folder}/a.jpeg", f"{mask_folder}/a.PNG", f"{image_folder}/b.TIF")
    assert pairs(find_tiles(tmp_path)) == {
        "a": (f"{image_folder}/a.jpeg", f"{mask_folder}/a.PNG"),
        "b": (f"{image_folder}/b.TIF", None),
    }


def test_pairs_of_folders_anywhere_below_the_root_keep_their_names_apart(tmp_path):
    touch(tmp_path, "Tile 1/images/p_001.jpg", "Tile 1/masks/p_001.png")
    touch(tmp_path, "deep/er/Tile 2/images/p_001.jpg", "deep/er/Tile 2/masks/p_001.png")
    touch(tmp_path, "later/images/p_001.jpg", "previews/p_001.png", "Tile 1/overview.png")
    listing = find_tiles(tmp_path)
    assert pairs(listing) == {
        "Tile 1/p_001": ("Tile 1/images/p_001.jpg", "Tile 1/masks/p_001.png"),
        "deep/er/Tile 2/p_001": ("deep/er/Tile 2/images/p_001.jpg", "deep/er/Tile 2/masks/p_001.png"),
        "later/p_001": ("later/images/p_001.jpg", None),
    }
    assert listing.notes == ()


def test_folders_within_images_and_masks_are_matched_by_name(tmp_path):
    touch(tmp_path, "images/train/a.tif", "images/val/a.tif", "labels/train/a.tif", "labels/val/a.tif")
    assert pairs(find_tiles(tmp_path)) == {
        "train/a": ("images/train/a.tif", "labels/train/a.tif"),
        "val/a": ("images/val/a.tif", "labels/val/a.tif"),
    }


def test_one_id_for_two_files_is_refused(tmp_path):
    touch(tmp_path, "images/a.tif", "images/a.jpg", "masks/a.tif")
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.tif differ in the suffix alone"):
        find_tiles(tmp_path)
    touch(tmp_path / "dg", "train/1_sat.jpg", "train/1_mask.png", "1_sat.jpg", "1_mask.png")
    with pytest.raises(DataError, match="both the tile '1'"):
        find_tiles(tmp_path / "dg")
    with pytest.raises(DataError, match="both the tile 'x'"):
        Listing(tmp_path, "", (TileFile("x", Path("a"), None), TileFile("x", Path("b"), None)))


def test_two_mask_folders_beside_one_another_are_refused(tmp_path):
    touch(tmp_path, "images/a.tif", "masks/a.tif", "labels/a.tif")
    with pytest.raises(DataError, match="holds both labels and masks; say which"):
        find_tiles(tmp_path)


def test_a_wrong_root_is_refused_with_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist; check the path"):
        find_tiles(tmp_path / "none")
    touch(tmp_path, "file.tif", "empty/readme.txt")
    with pytest.raises(DataError, match="is a file; give the folder"):
        find_tiles(tmp_path / "file.tif")
    with pytest.raises(DataError, match=r"no images \(.*\.tif.*\) in .*empty"):
        find_tiles(tmp_path / "empty")


def test_images_without_any_pair_are_refused_with_what_was_found_and_what_is_understood(tmp_path):
    touch(tmp_path, "a.tif", "b.tif", "more/c.tif")
    with pytest.raises(DataError) as caught:
        find_tiles(tmp_path)
    for part in (
        "3 images: 2 in the folder itself, 1 in more",
        "DeepGlobe",
        "--image-pattern",
        "--mask-pattern",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("place", ["class_dict.csv", "train/class_dict.csv"])
def test_class_dict_is_found_and_wins_over_what_is_known(tmp_path, place):
    touch(tmp_path, "train/2_sat.jpg", "train/2_mask.png")
    (tmp_path / place).write_text("name,r,g,b\nroad,255,255,255\nunknown,0,0,0\n")
    listing = find_tiles(tmp_path)
    assert listing.class_file == tmp_path / place
    table = choose_classes(listing)
    assert table is not None
    assert table.names == ("road",)
    (tmp_path / "mine.csv").write_text("name,value\nmine,1\n")
    given = choose_classes(listing, tmp_path / "mine.csv")
    assert given is not None
    assert given.names == ("mine",)


def test_unlabelled_images_of_a_folder_and_its_folders(tmp_path):
    touch(tmp_path, "b.tif", "deep/a.jpg", "deep/.hidden.jpg", "deep/a.jpg.aux.xml", "notes.txt")
    assert [tile.id for tile in find_unlabeled(str(tmp_path))] == ["b", "deep/a"]
    assert all(tile.mask is None for tile in find_unlabeled(str(tmp_path)))


def test_unlabelled_images_of_a_labelled_folder_are_not_its_masks(tmp_path):
    touch(tmp_path, "train/1_sat.jpg", "train/1_mask.png", "x/images/a.tif", "x/labels/a.tif")
    assert [tile.image.name for tile in find_unlabeled(str(tmp_path))] == ["1_sat.jpg", "a.tif"]


def test_unlabelled_images_of_a_glob(tmp_path):
    touch(tmp_path, "2020/a.tif", "2020/b.jpg", "2021/c/a.tif")
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/*/*.tif")] == ["2020/a"]
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/**/*.tif")] == ["2020/a", "2021/c/a"]
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/2020/*")] == ["a", "b"]


def test_a_folder_of_the_very_name_is_meant_before_a_pattern(tmp_path):
    touch(tmp_path, "data[1]*/a.tif", "data[1]*/deep/b.tif", "data1/c.tif", "other/d.tif", "other/[e].tif")
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/data[1]*")] == ["a", "deep/b"]
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/data[1]*/*.tif")] == ["a"]
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/data[1]*/**/*.tif")] == ["a", "deep/b"]
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/data[1]/*.tif")] == ["data1/c"]
    assert [tile.id for tile in find_unlabeled(f"{tmp_path}/other/*.tif")] == ["[e]", "d"]


def test_no_unlabelled_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no images .*\*\.tif; give a folder, or a glob"):
        find_unlabeled(f"{tmp_path}/*.tif")
    with pytest.raises(DataError, match="no images"):
        find_unlabeled(str(tmp_path))
    touch(tmp_path, "a.tif", "a.jpg")
    with pytest.raises(DataError, match="both the tile 'a'"):
        find_unlabeled(str(tmp_path))


def test_a_loop_of_links_ends_and_counts_each_file_once(tmp_path):
    touch(tmp_path, "images/a.tif", "masks/a.tif")
    (tmp_path / "images" / "loop").symlink_to(tmp_path)
    assert list(pairs(find_tiles(tmp_path))) == ["a"]


@pytest.mark.parametrize(
    ("name", "labelled", "unlabelled", "first"),
    [
        ("deepglobe512", 1901, 0, "10000"),
        ("deepglobe2448", 8, 3, "10233"),
        ("dubai", 54, 0, "Tile 1/image_part_001"),
        ("sentinel2", 6, 0, "202309_0"),
    ],
)
def test_real_folders(name, labelled, unlabelled, first):
    if not (DATA / name).is_dir():
        pytest.skip(f"set S4AUG_DATA to the folder of {name}")
    listing = find_tiles(DATA / name)
    assert (len(listing.labelled), len(listing.unlabelled)) == (labelled, unlabelled)
    assert listing.tiles[0].id == first
    assert listing.orphan_masks == ()
    assert listing.deepglobe == name.startswith("deepglobe")
