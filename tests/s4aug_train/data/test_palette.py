import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4aug_train.data.palette import DEEPGLOBE, IGNORE, ClassEntry, ClassTable, observed
from s4aug_train.data.raster import read_image, read_info
from s4aug_train.errors import DataError

DATA = Path(os.environ.get("S4AUG_DATA", Path(__file__).parents[4] / "shared" / "data"))
DUBAI = ClassTable(
    (
        ClassEntry("building", (60, 16, 152)),
        ClassEntry("land", (132, 41, 246)),
        ClassEntry("unlabeled", (155, 155, 155), ignored=True),
        ClassEntry("water", (226, 169, 41)),
    )
)
VALUES = ClassTable(
    (ClassEntry("a", value=10), ClassEntry("none", value=0, ignored=True), ClassEntry("b", value=1000))
)


def by_loop(table: ClassTable, pixels: np.ndarray, cut: bool) -> tuple[np.ndarray, dict[str, int]]:
    """Decode [H, W, 3] pixel by pixel."""
    labels, off, real = np.empty(pixels.shape[:2], np.uint8), Counter(), 0
    known = {}
    for entry in table.entries:
        known[entry.color] = IGNORE if entry.ignored else real
        real += not entry.ignored
    for row, column in np.ndindex(*labels.shape):
        color = tuple(int(channel) for channel in pixels[row, column])
        if cut:
            color = tuple(255 if channel >= 128 else 0 for channel in color)
        labels[row, column] = known.get(color, IGNORE)
        if color not in known:
            off[",".join(map(str, color))] += 1
    return labels, dict(off)


def test_corner_colours_decode_as_a_loop_over_cut_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (37, 41, 3)).astype(np.uint8)
    labels, off = DEEPGLOBE.decode(pixels.transpose(2, 0, 1))
    expected, expected_off = by_loop(DEEPGLOBE, pixels, cut=True)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8
    assert off == expected_off
    assert list(off) == ["255,0,0"]


def test_deepglobe_colours_are_their_classes():
    colors = [
        (0, 255, 255),
        (255, 255, 0),
        (255, 0, 255),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
        (0, 0, 0),
    ]
    labels, off = DEEPGLOBE.decode(np.array(colors, np.uint8).T[:, None])
    assert labels.tolist() == [[0, 1, 2, 3, 4, 5, 255]]
    assert off == {}


def test_other_colours_must_match_exactly():
    rng = np.random.default_rng(0)
    palette = np.array([entry.color for entry in DUBAI.entries] + [(0, 0, 0), (60, 16, 153)], np.uint8)
    pixels = palette[rng.integers(0, 6, (29, 31))]
    labels, off = DUBAI.decode(pixels.transpose(2, 0, 1))
    expected, expected_off = by_loop(DUBAI, pixels, cut=False)
    np.testing.assert_array_equal(labels, expected)
    assert off == expected_off
    assert set(off) == {"0,0,0", "60,16,153"}


def test_off_palette_never_becomes_a_class():
    labels, off = DUBAI.decode(np.zeros((3, 5, 5), np.uint8))
    assert (labels == IGNORE).all()
    assert off == {"0,0,0": 25}


def test_alpha_of_a_mask_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 9)).astype(np.uint8)
    np.testing.assert_array_equal(DEEPGLOBE.decode(pixels)[0], DEEPGLOBE.decode(pixels[:3])[0])


def test_a_palette_png_decodes_as_the_same_picture_in_rgb(tmp_path):
    rng = np.random.default_rng(0)
    colors = np.array([entry.color for entry in DUBAI.entries] + [(1, 2, 3)], np.uint8)
    indices = rng.integers(0, 5, (20, 30)).astype(np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(colors.ravel().tolist())
    image.save(tmp_path / "p.png")
    image.convert("RGB").save(tmp_path / "rgb.png")
    results = []
    for name in ("p.png", "rgb.png"):
        path = tmp_path / name
        results.append(DUBAI.decode(read_image(path), read_info(path).palette))
        assert observed(read_image(path), read_info(path).palette) == {
            ",".join(map(str, colors[index])): count
            for index, count in Counter(indices.ravel().tolist()).items()
        }
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1] == {"1,2,3": int((indices == 4).sum())}


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_index_masks_decode_by_value(dtype):
    raw = np.array([[[10, 0, 1000], [7, 7, 65535]]], dtype=dtype)
    labels, off = VALUES.decode(raw)
    assert labels.tolist() == [[0, 255, 1], [255, 255, 255]]
    assert labels.dtype == np.uint8
    assert off == {"7": 2, "65535": 1}


def test_fractions_and_negative_values_are_off_palette_and_nan_is_ignored():
    labels, off = VALUES.decode(np.array([[[10.5, -1.0, np.nan, 10.0]]], np.float32))
    assert labels.tolist() == [[255, 255, 255, 0]]
    assert off == {"10.5": 1, "-1": 1}


def test_a_negative_value_can_be_a_class():
    table = ClassTable((ClassEntry("a", value=-1), ClassEntry("b", value=2)))
    assert table.decode(np.array([[[2, -1]]], np.float32))[0].tolist() == [[1, 0]]
    assert table.decode(np.array([[[2, 255]]], np.uint8))[0].tolist() == [[1, 255]]


def test_a_table_with_both_takes_either_kind_of_mask():
    table = ClassTable((ClassEntry("a", (9, 9, 9), 4), ClassEntry("b", (8, 8, 8), 5)))
    assert table.decode(np.array([[[5, 4, 9]]], np.uint8))[0].tolist() == [[1, 0, 255]]
    assert table.decode(np.array([[[9, 8]]] * 3, np.uint8))[0].tolist() == [[0, 1]]


def test_a_table_of_the_other_kind_is_refused_by_name():
    with pytest.raises(
        DataError, match=r"m\.png holds one band of values, but .* only colours; add a column"
    ):
        DUBAI.decode(np.zeros((1, 4, 4), np.uint8), where="m.png")
    with pytest.raises(DataError, match=r"m\.png holds colours \(3 bands\), but .* only values"):
        VALUES.decode(np.zeros((3, 4, 4), np.uint8), where="m.png")
    with pytest.raises(DataError, match="3 bands of uint16"):
        DUBAI.decode(np.zeros((3, 4, 4), np.uint16))


def test_many_stray_colours_are_counted_but_not_listed_all():
    raw = np.random.default_rng(0).integers(0, 256, (3, 100, 100)).astype(np.uint8)
    _, off = DUBAI.decode(raw)
    assert len(off) == 65
    assert sum(off.values()) == 10000
    assert observed(raw)["other"] == off["other"]


def test_observed_values_are_counted():
    raw = np.array([[[10, 10, 30, 100]]])
    for dtype in (np.uint8, np.uint16, np.float32):
        assert observed(raw.astype(dtype)) == {"10": 2, "30": 1, "100": 1}


@pytest.mark.parametrize("table", [DEEPGLOBE, DUBAI])
def test_a_full_size_mask_decodes_fast(table):
    colors = np.array([entry.color for entry in table.entries], np.uint8)
    raw = np.ascontiguousarray(
        colors[np.random.default_rng(0).integers(0, 4, (2448, 2448))].transpose(2, 0, 1)
    )
    table.decode(raw)
    best = min(timed(lambda: table.decode(raw)) for _ in range(5))
    assert best < 0.3


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "classes.csv"
    path.write_bytes(text.encode())
    return path


def test_class_dict_of_deepglobe_is_the_builtin_table(tmp_path):
    rows = "urban_land,0,255,255\nagriculture_land,255,255,0\nrangeland,255,0,255\nforest_land,0,255,0\n"
    rows += "water,0,0,255\nbarren_land,255,255,255\nunknown,0,0,0\n"
    table = ClassTable.read(write(tmp_path, "name,r,g,b\n" + rows))
    assert table == DEEPGLOBE
    assert table.key == DEEPGLOBE.key
    assert table.names == tuple(row.split(",")[0] for row in rows.split("\n")[:6])
    assert table.colors[0] == (0, 255, 255)


def test_headers_tolerate_case_spaces_marks_and_blank_lines(tmp_path):
    text = "\ufeff Name , R ,G,B, Ignore\r\n\r\n a , 1, 2 ,3,\r\nclouds,4,5,6,1\r\nvoid,7,8,9,0\r\n"
    table = ClassTable.read(write(tmp_path, text))
    expected = (
        ClassEntry("a", (1, 2, 3)),
        ClassEntry("clouds", (4, 5, 6), ignored=True),
        ClassEntry("void", (7, 8, 9)),
    )
    assert table.entries == expected
    assert table.names == ("a", "void")


@pytest.mark.parametrize("name", ["Unknown", "unlabeled", "UNLABELLED", "ignore", "void", "nodata"])
def test_ignored_names_are_known_but_no_class(tmp_path, name):
    table = ClassTable.read(write(tmp_path, f"name,value\n{name},3\nb,4\n"))
    assert table.names == ("b",)
    labels, off = table.decode(np.array([[[3, 4]]], np.uint8))
    assert labels.tolist() == [[255, 0]]
    assert off == {}


@pytest.mark.parametrize(
    "table",
    [
        DEEPGLOBE,
        DUBAI,
        VALUES,
        ClassTable((ClassEntry("x, y", (1, 2, 3), 4), ClassEntry("void", (1, 2, 4), 5))),
    ],
)
def test_a_written_table_reads_back(tmp_path, table):
    table.write(tmp_path / "t.csv")
    assert ClassTable.read(tmp_path / "t.csv") == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("r,g,b\n1,2,3\n", "line 1: no column name"),
        ("name\na\n", "line 1: no column r, g, b"),
        ("name,r,g\na,1,2\n", "line 1: no column b"),
        ("name,value,r\na,1,2\n", "line 1: no column g, b"),
        ("name,value,value\na,1,2\n", "line 1: the column 'value' appears twice"),
        ("name,r,g,b\na,1,2,256\n", r"line 2: the colour \(1, 2, 256\) of 'a' is outside 0..255"),
        ("name,r,g,b\na,1,2,-1\n", "line 2: the colour"),
        ("name,r,g,b\na,1,2,x\n", "line 2: the column b needs a whole number, not 'x'"),
        ("name,r,g,b\na,1,2\n", "line 2: the column b needs a whole number, not ''"),
        ("name,r,g,b\na,1,2,3,4,5\n", "line 2: 6 cells, but 4 columns"),
        ("name,value\na,1\n\na,2\n", "line 4: the name a is also that of 'a'"),
        ("name,value\na,1\nb,1\n", "line 3: the value 1 is also that of 'a'"),
        ("name,r,g,b\na,1,2,3\nb,1,2,3\n", r"line 3: the colour \(1, 2, 3\) is also that of 'a'"),
        ("name,value\n,1\n", "line 2: the name is empty"),
        ("name,value,ignore\na,1,maybe\n", "line 2: the column ignore is 1 or 0"),
        ("name,value\nunknown,1\n", "0 classes to learn"),
        ("name,value\n", "0 classes to learn"),
        ("name,value\n" + "".join(f"c{i},{i}\n" for i in range(256)), "256 classes to learn"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        ClassTable.read(path)
    assert str(caught.value).startswith(str(path))


def test_a_table_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        ClassTable.read(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"name,r,g,b\n\xff\xfe\x00")
    with pytest.raises(DataError, match="not text in UTF-8"):
        ClassTable.read(tmp_path / "b.csv")


def test_255_classes_are_possible_and_have_distinct_colours():
    table = ClassTable(tuple(ClassEntry(f"c{i}", value=i) for i in range(255)))
    assert table.decode(np.array([[[0, 254, 255]]], np.uint8))[0].tolist() == [[0, 254, 255]]
    first = np.array(table.colors[:12], int)
    distances = np.abs(first[:, None] - first[None]).sum(-1) + 999 * np.eye(12, dtype=int)
    assert distances.min() > 40
    assert len(set(table.colors)) == 255


def test_the_key_tells_tables_apart():
    keys = {DEEPGLOBE.key, DUBAI.key, VALUES.key, ClassTable(DUBAI.entries[:3]).key}
    assert len(keys) == 4


def test_decoding_changes_neither_mask_nor_table():
    raw = np.random.default_rng(0).integers(0, 256, (3, 20, 20)).astype(np.uint8)
    before = raw.copy()
    DEEPGLOBE.decode(raw)
    DUBAI.decode(raw)
    observed(raw)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.skipif(
    not (DATA / "deepglobe512").is_dir(), reason="set S4AUG_DATA to the folder of deepglobe512"
)
def test_deepglobe512_has_27_red_pixels_in_12_masks():
    red: Counter[str] = Counter()
    masks = sorted((DATA / "deepglobe512" / "train").glob("*_mask.png"))
    for path in masks:
        _, off = DEEPGLOBE.decode(read_image(path))
        assert set(off) <= {"255,0,0"}
        red.update({path.name: off.get("255,0,0", 0)})
    assert len(masks) >= 1622
    assert red.total() == 27
    assert sum(count > 0 for count in red.values()) == 12
