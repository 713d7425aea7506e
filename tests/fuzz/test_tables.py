"""Class tables and tiles.csv: any text, and tables with some of their lines, cells and bytes changed."""

import csv
import io

from hypothesis import example, given
from hypothesis import strategies as st

from s4aug_train.data.palette import ClassTable
from s4aug_train.data.split import read_groups
from tests.fuzz.conftest import DATA, SMALL, TABLE
from tests.fuzz.promise import fuzzed, told
from tests.fuzz.strategies import SCALARS, TEXTS, mutated_bytes, mutated_tree

CELLS = SCALARS.map(str) | TEXTS | st.sampled_from(["255", "1", "unknown", "train", "val", "=1+1", '"'])
VALUES = "name,value,ignore\nred,0,\nwhite,1,0\nunknown,2,1\n"
TILES = "id,spatial_group,split\n" + "".join(f"{n},{'abcd'[n // 2]},{'val' if n < 2 else 'train'}\n" for n in range(8))


def written(rows):
    """As CSV."""
    file = io.StringIO()
    writer = csv.writer(file, escapechar="\\")
    for row in rows if isinstance(rows, list) else [rows]:
        writer.writerow(row if isinstance(row, list) else [row])
    return file.getvalue().encode(errors="surrogatepass")


def tables(*texts):
    """What a table may be instead of those given."""
    rows = [list(csv.reader(io.StringIO(text))) for text in texts]
    mutated = [mutated_tree(each, CELLS | st.lists(CELLS, max_size=5)).map(written) for each in rows]
    flipped = [mutated_bytes(text.encode()) for text in texts]
    return st.one_of(*mutated, *flipped, st.binary(max_size=60), st.lists(st.lists(CELLS)).map(written))


CLASSES = tables(TABLE, VALUES)


@fuzzed(50)
@given(content=CLASSES)
@example(content=b"name,value\n\x1b[31mred,1\n")
@example(content=b'name,value\n"a\nb",1\n')
@example(content="name,value\n\u202ered,1\n".encode())
@example(content=b"name,value\nred," + b"9" * 4000 + b"\n")
@example(content=b"name,value\nred," + b"9" * 5000 + b"\n")
@example(content=b"name,r,g,b\nred," + b"9" * 4000 + b",0,0\n")
@example(content=b"name,value\n" + b"x" * 200_000 + b",1\n")
@example(content=b"name,value\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(300)))
@example(content=TABLE.encode("utf-16"))
def test_any_class_table_is_taken_or_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "table.csv").write_bytes(content)
        table = told(lambda: ClassTable.read(folder / "table.csv"))
        if table is not None:
            table.write(folder / "again.csv")
            assert ClassTable.read(folder / "again.csv").entries == table.entries


@fuzzed(5)
@given(content=CLASSES)
@example(content=VALUES.encode())
@example(content=TABLE.replace("red", "[/red]").encode())
def test_a_data_set_with_any_class_table_is_checked_and_trained_on_or_told_of(world, content):
    with world.fresh() as folder:
        (folder / "table.csv").write_bytes(content)
        data = ["--data", "../data", "--classes", "table.csv", "--labeled", "3", "--val", "2"]
        sound = world.call("doctor", *data, "--write-classes", "again.csv").code == 0
        assert world.call("fit", *data, "--out", "run", *SMALL).code == (0 if sound else 1)


@fuzzed(50)
@given(content=tables(TILES))
@example(content=TILES.encode("utf-16"))
@example(content=b"id,spatial_group\n0,a,1,2,3\n")
@example(content=b"id,spatial_group\n0\n")
@example(content=b"id,id,spatial_group,spatial_group\n0,1,a,a\n")
@example(content=b"id,spatial_group\n" + b"x" * 200_000 + b",a\n")
def test_any_groups_are_taken_or_told_of_in_one_line(world, content):
    with world.fresh() as folder:
        (folder / "tiles.csv").write_bytes(content)
        told(lambda: read_groups(folder))


@fuzzed(5)
@given(content=tables(TILES))
@example(content=TILES.encode())
def test_a_data_set_with_any_groups_is_divided_or_told_of(world, content):
    with world.fresh() as folder:
        data = world.copied_data()
        (data / "tiles.csv").write_bytes(content)
        divided = world.call("split", "--data", data, *DATA[2:], "--labeled", "2", "--val", "2", "--out", "split.json")
        world.call("doctor", "--data", data, *DATA[2:], "--labeled", "2")
        assert (folder / "split.json").exists() == (divided.code == 0)
