from pathlib import Path

import pytest

from s4aug_train.data.layouts import Listing, find_tiles
from s4aug_train.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def pairs(listing: Listing) -> dict[str, tuple[str, str | None]]:
    def relative(path: Path | None) -> str | None:
        return path and path.relative_to(listing.root).as_posix()

    return {tile.id: (relative(tile.image), relative(tile.mask)) for tile in listing.tiles}


@pytest.mark.parametrize(
    ("image", "mask", "tile_id", "note"),
    [
        ("2023_patchN_{}.tif", "2023_mask_{}.tif", "2023_{}", "by replacing 'patchN' with 'mask'"),
        ("x{}_sat.jpg", "x{}_mask.png", "x{}", "by replacing 'sat' with 'mask'"),
        ("x{}_RGB.tif", "x{}.tif", "x{}", "leaving 'RGB' out of the image names"),
        ("x{}.tif", "x{}-gt.tif", "x{}", "leaving 'gt' out of the mask names"),
        ("rgb-x{}.tif", "label_x{}.tif", "x{}", "by replacing 'rgb' with 'label'"),
    ],
)
def test_names_that_differ_in_one_token_match(tmp_path, image, mask, tile_id, note):
    for number in (1, 2, 30):
        touch(tmp_path, f"images/{image.format(number)}", f"labels/{mask.format(number)}")
    touch(tmp_path, f"images/{image.format(4)}", f"labels/{mask.format(5)}")
    listing = find_tiles(tmp_path)
    assert {tile.id: tile.mask and tile.mask.name for tile in listing.tiles} == {
        **{tile_id.format(number): mask.format(number) for number in (1, 2, 30)},
        tile_id.format(4): None,
    }
    assert [path.name for path in listing.orphan_masks] == [mask.format(5)]
    assert len(listing.notes) == 1
    assert note in listing.notes[0]


def test_names_that_differ_in_two_tokens_do_not_match(tmp_path):
    touch(tmp_path, "images/a_b_1.tif", "images/a_b_2.tif", "masks/c_d_1.tif", "masks/c_d_2.tif")
    with pytest.raises(DataError, match="no pair of image and mask"):
        find_tiles(tmp_path)


def test_names_that_match_in_two_ways_are_refused(tmp_path):
    touch(tmp_path, "images/a_b_1_2.tif", "images/a_b_2_1.tif")
    touch(tmp_path, "masks/a_x_1_2.tif", "masks/a_x_2_1.tif")
    assert len(find_tiles(tmp_path).labelled) == 2
    touch(tmp_path / "two", "images/p_q.tif", "masks/q.tif", "masks/p.tif")
    with pytest.raises(DataError, match="two ways"):
        find_tiles(tmp_path / "two")


def test_patterns_pair_by_their_fields(tmp_path):
    touch(tmp_path, "scenes/A/rgb_07.tif", "scenes/B/rgb_07.tif", "scenes/B/rgb_08.tif", "scenes/B/nir_08.tif")
    touch(tmp_path, "truth/07-A.png", "truth/07-B.png", "truth/09-B.png")
    listing = find_tiles(tmp_path, image_pattern="scenes/{area}/rgb_{n}.tif", mask_pattern="truth/{n}-{area}.png")
    assert pairs(listing) == {
        "A_07": ("scenes/A/rgb_07.tif", "truth/07-A.png"),
        "B_07": ("scenes/B/rgb_07.tif", "truth/07-B.png"),
        "B_08": ("scenes/B/rgb_08.tif", None),
    }
    assert [path.name for path in listing.orphan_masks] == ["09-B.png"]
    assert not listing.deepglobe


def test_a_pattern_for_masks_takes_them_out_of_the_images(tmp_path):
    touch(tmp_path, "a.png", "a_mask.png", "b.png")
    listing = find_tiles(tmp_path, image_pattern="{id}.png", mask_pattern="{id}_mask.png")
    assert pairs(listing) == {"a": ("a.png", "a_mask.png"), "b": ("b.png", None)}


def test_a_field_that_occurs_twice_must_be_the_same(tmp_path):
    touch(tmp_path, "images/a/a_1.tif", "images/a/b_1.tif", "masks/a_1.tif")
    listing = find_tiles(tmp_path, image_pattern="images/{s}/{s}_{n}.tif", mask_pattern="masks/{s}_{n}.tif")
    assert list(pairs(listing)) == ["a_1"]


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ("{id}.tif", None, "go together"),
        (None, "{id}.tif", "go together"),
        ("a.tif", "b.tif", "needs fields in braces"),
        ("{id.tif", "{id}.tif", "needs fields in braces"),
        ("{}.tif", "{}.tif", "no name"),
        ("{1}.tif", "{1}.tif", "no name"),
        ("{a}.tif", "{b}.tif", "differ in fields"),
        ("x/{a}.tif", "y/{a}.tif", "no pair of image and mask"),
    ],
)
def test_a_wrong_pattern_is_refused(tmp_path, image, mask, message):
    touch(tmp_path, "images/a.tif", "masks/a.tif")
    with pytest.raises(DataError, match=message):
        find_tiles(tmp_path, image_pattern=image, mask_pattern=mask)
