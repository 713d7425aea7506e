from pathlib import Path

import numpy as np
import pytest

from s4aug_train.data.palette import DEEPGLOBE, ClassEntry, ClassTable
from s4aug_train.errors import DataError

DUBAI = ClassTable(
    (
        ClassEntry("building", (60, 16, 152)),
        ClassEntry("land", (132, 41, 246)),
        ClassEntry("unlabeled", (155, 155, 155), ignored=True),
        ClassEntry("water", (226, 169, 41)),
    )
)
VALUES = ClassTable((ClassEntry("a", value=10), ClassEntry("none", value=0, ignored=True), ClassEntry("b", value=1000)))


def test_a_table_with_both_takes_either_kind_of_mask():
    table = ClassTable((ClassEntry("a", (9, 9, 9), 4), ClassEntry("b", (8, 8, 8), 5)))
    assert table.decode(np.array([[[5, 4, 9]]], np.uint8))[0].tolist() == [[1, 0, 255]]
    assert table.decode(np.array([[[9, 8]]] * 3, np.uint8))[0].tolist() == [[0, 1]]


def test_a_table_of_the_other_kind_is_refused_by_name():
    with pytest.raises(DataError, match=r"m\.png holds one band of values, but .* only colours; add a column"):
        DUBAI.decode(np.zeros((1, 4, 4), np.uint8), where="m.png")
    with pytest.raises(DataError, match=r"m\.png holds colours \(3 bands\), but .* only values"):
        VALUES.decode(np.zeros((3, 4, 4), np.uint8), where="m.png")
    with pytest.raises(DataError, match="3 bands of uint16"):
        DUBAI.decode(np.zeros((3, 4, 4), np.uint16))


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 5},
        {"name": "a", "color": ("x", "y", "z")},
        {"name": "a", "color": (1, 2)},
        {"name": "a", "value": 1.5},
        {"name": "a", "value": 1, "ignored": None},
    ],
)
def test_a_class_of_other_types_is_refused(wrong):
    with pytest.raises(DataError, match="a class is a name"):
        ClassEntry(**wrong)


def test_a_name_that_a_terminal_would_obey_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"classes\.csv, line 2: the name '\\x1b\[31mred' holds a control character"):
        ClassTable.read(write(tmp_path, "name,value\n\x1b[31mred,1\n"))


def test_a_value_that_no_mask_can_hold_is_refused(tmp_path):
    with pytest.raises(DataError, match="more than 64 bits"):
        ClassTable.read(write(tmp_path, f"name,value\nred,{2**64}\n"))
