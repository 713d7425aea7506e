"""Splits are disjoint, reproducible, nested and stratified; manifests and tiles.csv are held to their word."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s4aug_train.data.split import (
    Groups,
    Split,
    draw_split,
    groups_by_folder,
    held_out_by_groups,
    read_groups,
    stratified_order,
    validation_count,
)
from s4aug_train.errors import DataError


def drawn(class_pixels, others=(), *, labeled=10, val=8, seed=0, split_seed=0, groups=None) -> Split:
    return draw_split(class_pixels, others, labeled=labeled, val=val, seed=seed, split_seed=split_seed, groups=groups)


def tiles(count=60, seed=0, share=(0.9, 0.5, 0.2, 0.1)) -> dict[str, list[int]]:
    """Pixels of each class, by id; classes occur in about the given shares of the tiles."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 1000, (count, len(share))) * (rng.random((count, len(share))) < share)
    return {f"t{i:03d}": row.tolist() for i, row in enumerate(pixels)}


def grouped(ids, size=5) -> dict[str, str]:
    return {tile: f"g{i // size}" for i, tile in enumerate(sorted(ids))}


def csv_of(folder, *lines) -> None:
    (folder / "tiles.csv").write_text("\n".join(lines) + "\n")


def test_parts_are_disjoint_and_hold_every_tile_and_all_that_has_no_mask():
    split = drawn(tiles(), ["u2", "u1"], labeled=20, val=7)
    assert (len(split.labeled), len(split.val), len(split.unlabeled)) == (20, 7, 33 + 2)
    assert {*split.labeled, *split.unlabeled, *split.val} == {*tiles(), "u1", "u2"}
    assert {"u1", "u2"} <= set(split.unlabeled)


@pytest.mark.parametrize("parts", [("a", "a", ""), ("a", "", "a"), ("", "a", "a"), ("aa", "", "")])
def test_overlap_is_refused_by_name(parts):
    with pytest.raises(DataError, match=r"tile a is in .*each belongs to one part"):
        Split(*map(tuple, parts))


def test_the_order_of_the_files_does_not_matter():
    forward = tiles()
    backward = dict(reversed(forward.items()))
    assert drawn(forward, ["u1", "u2"]) == drawn(backward, ["u2", "u1"])
    groups = Groups(grouped(forward), {})
    assert drawn(forward, groups=groups) == drawn(backward, groups=groups)


def test_the_seed_moves_the_labelled_set_and_leaves_the_validation_set():
    one, other = drawn(tiles(), seed=1), drawn(tiles(), seed=2)
    assert one.val == other.val
    assert one.labeled != other.labeled
    assert drawn(tiles(), split_seed=5).val != one.val
    assert drawn(tiles(), seed=1) == one


@pytest.mark.parametrize("groups", [None, Groups(grouped(tiles()), {})])
def test_a_smaller_labelled_set_is_part_of_a_larger_one(groups):
    nested = [set(drawn(tiles(), labeled=count, seed=4, groups=groups).labeled) for count in (1, 5, 20, 40)]
    assert all(small < large for small, large in itertools.pairwise(nested))
    assert [len(part) for part in nested] == [1, 5, 20, 40]


def test_the_first_n_tiles_hold_every_class_that_they_should():
    """A class in a share s of all tiles is among the first n as soon as n s exceeds 1."""
    rng = np.random.default_rng(0)
    checked = 0
    for trial in range(150):
        count, classes = int(rng.integers(3, 60)), int(rng.integers(2, 7))
        has = rng.random((count, classes)) < rng.uniform(0.03, 0.9, classes)
        ids = [f"t{i}" for i in range(count)]
        order = stratified_order(ids, dict(zip(ids, has, strict=True)), trial, "labeled")
        assert sorted(order) == sorted(ids)
        share = has.mean(0)
        for n in range(1, count + 1):
            found = has[[ids.index(tile) for tile in order[:n]]].any(0)
            due = n * share > 1 + 1e-9
            assert found[due].all()
            checked += int(due.sum())
    assert checked > 1000


def test_shares_of_a_beginning_are_nearer_to_the_whole_than_those_of_a_random_draw():
    pixels = tiles(200)
    present = {tile: np.array(row) > 0 for tile, row in pixels.items()}
    whole = np.mean(list(present.values()), axis=0)

    def apart(ids) -> float:
        return float(np.abs(np.mean([present[tile] for tile in ids], axis=0) - whole).max())

    order = stratified_order(list(pixels), present, 0, "x")
    rng = np.random.default_rng(0)
    random = [apart(rng.permutation(list(pixels))[:20]) for _ in range(50)]
    assert apart(order[:20]) < np.percentile(random, 5)


def test_a_set_without_any_class_is_still_ordered():
    ids = ["a", "b", "c"]
    assert sorted(stratified_order(ids, {tile: np.zeros(2, bool) for tile in ids}, 0, "x")) == ids
    assert stratified_order([], {}, 0, "x") == []


@given(st.integers(1, 2000), st.integers(0, 400))
def test_the_validation_set_is_what_is_asked_for_or_a_quarter_up_to_200(pairs, val):
    count = validation_count(pairs, val)
    assert count == val or (val == 0 and 1 <= count <= 200 and (count == 1 or 4 * count <= pairs))
    assert val or count in (1, 200) or 4 * (count + 1) > pairs


def test_deepglobes_803_pairs_are_divided_as_in_the_paper():
    split = drawn(tiles(803), labeled=100, val=0)
    assert [len(part) for part in (split.labeled, split.unlabeled, split.val)] == [100, 503, 200]


def test_unlabelled_neighbours_of_validation_tiles_are_left_out():
    groups = Groups({**grouped(tiles(), size=7), "bare": grouped(tiles(), size=7)["t000"], "far": "elsewhere"}, {})
    for seed in range(8):
        split = draw_split(tiles(), ["bare", "far"], labeled=3, val=10, seed=0, split_seed=seed, groups=groups)
        held_out = {groups.group[tile] for tile in split.val}
        assert "far" in split.unlabeled
        assert ("bare" in split.unlabeled) == (groups.group["bare"] not in held_out)


def test_a_manifest_that_divides_a_group_is_refused():
    groups = Groups({"a": "1", "b": "1", "c": "2"}, {})
    with pytest.raises(DataError, match="group 1 is both in val and in training"):
        groups.check(Split(("a",), (), ("b",)), Path("m.json"))
    groups.check(Split(("a", "b"), (), ("c",)), Path("m.json"))


def test_a_tile_that_tiles_csv_lacks_is_refused():
    with pytest.raises(DataError, match="lacks the tile"):
        drawn(tiles(), groups=Groups({"119_sat": "1"}, {}))


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_straddle_training_and_validation(seed):
    groups = Groups(grouped(tiles(), size=7), {})
    split = drawn(tiles(), val=10, split_seed=seed, groups=groups)
    held_out = {groups.group[tile] for tile in split.val}
    assert held_out.isdisjoint(groups.group[tile] for tile in (*split.labeled, *split.unlabeled))
    assert 10 <= len(split.val) < 10 + 7
    assert f"{len(split.val)} tiles in whole spatial groups ({', '.join(sorted(held_out))}) by seed {seed}" in split.how


def test_tiles_named_in_tiles_csv_are_the_validation_set(tmp_path):
    ids = sorted(tiles())
    lines = [f"{tile},g{i // 5},{'val' if i // 5 in (2, 7) else 'train'}" for i, tile in enumerate(ids)]
    csv_of(tmp_path, "id,spatial_group,split", *lines, "elsewhere,g2,val")
    split = drawn(tiles(), val=3, groups=read_groups(tmp_path))
    assert split.val == (*ids[10:15], *ids[35:40])
    assert "10 tiles named in tiles.csv (g2, g7)" in split.how
    each = Groups({tile: tile for tile in ids}, {})
    how = drawn(tiles(), val=23, groups=each).how
    assert how.count(", t") == 19
    assert " and 3 more) by seed" in how


def test_a_tiles_csv_whose_validation_tiles_are_all_foreign_is_refused(tmp_path):
    csv_of(tmp_path, "id,spatial_group,split", "t000.jpg,a,val", "t001.jpg,b,train")
    with pytest.raises(DataError, match=r"such as t000\.jpg, but none .*such as t000; make its ids"):
        drawn(tiles(), groups=read_groups(tmp_path))


def test_a_tiles_csv_without_a_split_column_gives_groups_alone(tmp_path):
    assert read_groups(tmp_path) is None
    (tmp_path / "tiles.csv").write_bytes(b"\xef\xbb\xbfid,spatial_group,note\r\na,g1,x\r\nb,g1,\r\n")
    assert read_groups(tmp_path) == Groups({"a": "g1", "b": "g1"}, {})


def test_spaces_around_a_group_make_no_other_one(tmp_path):
    csv_of(tmp_path, "id,spatial_group", "a, g1", "b,g1 ", "c,g1")
    assert read_groups(tmp_path).names("abc") == ("g1",)
    csv_of(tmp_path, "id,spatial_group", "a, ")
    with pytest.raises(DataError, match="no id or no spatial_group"):
        read_groups(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_a_group_is_always_left_to_train_on(seed):
    ids = [f"t{number:03d}" for number in range(340)]
    groups = Groups({tile: "large" if number < 300 else "small" for number, tile in enumerate(ids)}, {})
    held, _ = held_out_by_groups(ids, 85, seed, groups)
    assert len(held) in (40, 300)


def test_one_group_is_told_for_what_it_is():
    with pytest.raises(DataError, match=r"spatial group all of tiles\.csv, so none can be held out; make several"):
        held_out_by_groups(["a", "b"], 1, 0, Groups({"a": "all", "b": "all"}, {}))


def test_images_without_masks_that_tiles_csv_holds_out_are_not_trained_on():
    pixels = tiles(20)
    names = [*pixels, "u1", "u2", "u3"]
    group = {tile: tile for tile in names} | {"u3": "far"}
    part = dict.fromkeys([*sorted(pixels)[:5], "u1"], "val")
    split = drawn(pixels, ["u1", "u2", "u3"], labeled=5, groups=Groups(group, part))
    assert {*split.unlabeled} & {"u1", "u2", "u3"} == {"u2", "u3"}
    with pytest.raises(DataError, match="spatial group u1 is both in val and in training"):
        Groups(group, part).check(Split(("t009",), ("u1",), ("t001",)), Path("split.json"))
    beside = Groups({**group, "u2": "u1"}, part)
    assert {*drawn(pixels, ["u1", "u2", "u3"], labeled=5, groups=beside).unlabeled} & {"u1", "u2", "u3"} == {"u3"}


@pytest.mark.parametrize(
    ("ids", "groups"),
    [
        (["north/1", "north/2", "south/a, b/1"], ["north", "north", "south/a, b"]),
        (["north/1", "south"], ["north", "south"]),
        (["north/1", "north/2"], ["north/1", "north/2"]),
        (["1", "2"], ["1", "2"]),
    ],
)
def test_folders_become_groups_that_can_be_read_again(tmp_path, ids, groups):
    groups_by_folder({tile: tile for tile in ids}).write(tmp_path / "tiles.csv")
    assert read_groups(tmp_path) == Groups(dict(zip(ids, groups, strict=True)), {})


@pytest.mark.parametrize("sides", [("train", "val"), ("val", "train"), ("val", ""), ("", "val"), ("val", "  ")])
def test_a_group_on_both_sides_is_refused(tmp_path, sides):
    csv_of(tmp_path, "id,spatial_group,split", f"a,g,{sides[0]}", f"b,g,{sides[1]}")
    with pytest.raises(DataError, match=r"tiles\.csv: spatial group g is both in train and in val"):
        read_groups(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs the columns id,spatial_group"),
        (b"id,group\na,b\n", "needs the columns id,spatial_group"),
        (b"id;spatial_group\na;b\n", "needs the columns id,spatial_group"),
        (b"id,spatial_group\na,g\na,h\n", "has the tile a twice"),
        (b"id,spatial_group\na,g\nb\n", "tile 2: no id or no spatial_group"),
        (b"id,spatial_group\na,g\nb,\n", "tile 2: no id or no spatial_group"),
        (b"id,spatial_group,split\na,g,train\nb,h,test\n", "a split is train or val, not 'test'"),
        (b"id,spatial_group\n\xff\xfe,g\n", "cannot read"),
    ],
)
def test_a_wrong_tiles_csv_is_refused_in_one_line_with_its_path(tmp_path, content, message):
    (tmp_path / "tiles.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_groups(tmp_path)
    assert str(tmp_path / "tiles.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wanted", [53, 1000])
def test_more_labelled_tiles_than_there_are_is_refused_with_the_largest_number(wanted):
    assert len(drawn(tiles(), labeled=52).labeled) == 52
    with pytest.raises(DataError, match=f"{wanted} labelled tiles are wanted, .* use --labeled 52 or fewer"):
        drawn(tiles(), labeled=wanted)


def test_tiles_to_train_on_alone_hold_nothing_out_and_are_no_hindrance_to_a_manifest(tmp_path):
    csv_of(tmp_path, "id,spatial_group,split", "a,g,train", "b,h,")
    groups = read_groups(tmp_path)
    with pytest.raises(DataError, match="marks tiles as train and none as val; mark those to hold out, or empty the"):
        held_out_by_groups(["a", "b"], 1, 0, groups)
    groups.check(Split(("a",), (), ("b",)), tmp_path / "s.json")


def test_validation_tiles_that_leave_none_to_train_on_are_refused():
    with pytest.raises(DataError, match="leave no tile with a mask to train on"):
        drawn({"a": [1]}, labeled=1)
    with pytest.raises(DataError, match="leave no tile with a mask to train on"):
        drawn(tiles(), labeled=1, groups=Groups(grouped(tiles()), dict.fromkeys(tiles(), "val")))


def test_a_written_split_reads_back(tmp_path):
    split = drawn(tiles(), ["Tile 1/ü"])
    split.write(tmp_path / "s.json")
    assert Split.read(tmp_path / "s.json") == split
    assert json.loads((tmp_path / "s.json").read_text())["hash"] == split.hash


def test_the_hash_depends_on_who_is_where_and_on_nothing_else():
    split = Split(("a", "b"), ("c",), ("d",), "one way")
    assert Split(("b", "a"), ("c",), ("d",), "another").hash == split.hash
    others = [Split(("a",), ("b", "c"), ("d",)), Split(("a", "b"), ("d",), ("c",)), Split(("a", "b"), ("c",), ())]
    assert len({split.hash, *(other.hash for other in others)}) == 4


@pytest.mark.parametrize("part", ["labeled", "unlabeled", "val"])
def test_a_change_by_hand_is_found_and_can_be_accepted(tmp_path, part):
    path = tmp_path / "s.json"
    drawn(tiles()).write(path)
    content = json.loads(path.read_text())
    content[part] = content[part][1:]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"s\.json was changed by hand: .* remove the hash line"):
        Split.read(path)
    del content["hash"]
    path.write_text(json.dumps(content))
    assert list(getattr(Split.read(path), part)) == content[part]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"labeled": [], "unlabeled": []}',
        b'{"labeled": null, "unlabeled": [], "val": []}',
        b'{"labeled": "abc", "unlabeled": [], "val": []}',
        b'{"labeled": [1], "unlabeled": [], "val": []}',
        b'{"labeled": [["a"]], "unlabeled": [], "val": []}',
        b'{"labeled": ["a"], "unlabeled": [], "val": ["a"]}',
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line_with_its_path(tmp_path, content):
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        Split.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_refused():
    with pytest.raises(DataError, match=r"cannot read the split none\.json .*No such file"):
        Split.read(Path("none.json"))


def test_drawing_changes_none_of_its_arguments():
    pixels, others = tiles(), ["u2", "u1"]
    drawn(pixels, others)
    assert (pixels, others) == (tiles(), ["u2", "u1"])
