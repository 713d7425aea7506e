"""The made-up set is deterministic and lies on disk as DeepGlobe does."""

import csv
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4aug_train.data.synthetic import Demo, _planned, write_demo
from s4aug_train.data.terrain import UNKNOWN, render_tile
from s4aug_train.errors import ConfigError, DataError
from s4aug_train.rng import stream_rng

SMALL = Demo(tiles=5, unlabeled=2, size=48, seed=3)
# DeepGlobe's table, typed out again: what the module writes is not judged by what the module says.
COLOURS = {
    0: (0, 255, 255),
    1: (255, 255, 0),
    2: (255, 0, 255),
    3: (0, 255, 0),
    4: (0, 0, 255),
    5: (255, 255, 255),
    UNKNOWN: (0, 0, 0),
}

Tile = tuple[np.ndarray, np.ndarray]


def tile(index: int, size: int = 48, seed: int = 0) -> Tile:
    return render_tile(stream_rng(seed, index, "demo train"), size)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "set", SMALL)


@pytest.fixture
def demo(written: Path, tmp_path: Path) -> Path:
    """A copy of the whole demo that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "demo"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decoded(path: Path) -> np.ndarray:  # [H, W]
    """Labels of a mask, by comparing each pixel with each colour; 100 where none fits."""
    pixels = np.asarray(Image.open(path))
    assert pixels.ndim == 3
    label = np.full(pixels.shape[:2], 100, np.uint8)
    for index, colour in COLOURS.items():
        label[(pixels == colour).all(-1)] = index
    return label


def test_different_seeds_differ(written: Path, tmp_path: Path) -> None:
    other = write_demo(tmp_path / "other", Demo(tiles=5, unlabeled=2, size=48, seed=4))
    pictures = {content for name, content in contents(other).items() if name.endswith(".jpg")}
    assert len(pictures) == 7
    assert pictures.isdisjoint(contents(written).values())


def test_a_tile_does_not_depend_on_how_many_there_are(written: Path, tmp_path: Path) -> None:
    fewer = contents(write_demo(tmp_path / "fewer", Demo(tiles=2, unlabeled=1, size=48, seed=3)))
    more = contents(written)
    del fewer["demo.json"]
    assert len(fewer) == 2 * 2 + 1 + 1
    assert fewer.items() <= more.items()


def test_the_layout_is_deepglobes(written: Path) -> None:
    images = sorted(path.name.removesuffix("_sat.jpg") for path in (written / "train").glob("*_sat.jpg"))
    masks = sorted(path.name.removesuffix("_mask.png") for path in (written / "train").glob("*_mask.png"))
    unlabeled = [path.name.removesuffix("_sat.jpg") for path in (written / "valid").iterdir()]
    assert images == masks
    assert (len(images), len(unlabeled)) == (5, 2)
    ids = images + unlabeled
    assert len(set(ids)) == 7
    assert all(len(name) == 6 and name.isdigit() for name in ids)
    assert len(contents(written)) == 5 * 2 + 2 + 2


def test_the_class_table_names_every_colour(written: Path) -> None:
    with (written / "class_dict.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "r", "g", "b"]
    assert [tuple(int(value) for value in row[1:]) for row in rows[1:]] == list(COLOURS.values())
    assert (rows[2][0], rows[-1][0]) == ("agriculture_land", "unknown")


def test_files_decode_to_the_rendered_tiles(written: Path) -> None:
    rendered = [tile(index, seed=3) for index in range(5)]
    for path in (written / "train").glob("*_mask.png"):
        label = decoded(path)
        (image,) = (image for image, truth in rendered if np.array_equal(truth, label))
        jpeg = np.asarray(Image.open(str(path).replace("_mask.png", "_sat.jpg"))).transpose(2, 0, 1)
        assert np.abs(jpeg.astype(float) - image).mean() < 12


def test_unknown_survives_the_disk(tmp_path: Path) -> None:
    seed = next(seed for seed in range(100) if UNKNOWN in tile(0, seed=seed)[1])
    folder = write_demo(tmp_path / "demo", Demo(tiles=1, unlabeled=0, size=48, seed=seed))
    (path,) = (folder / "train").glob("*_mask.png")
    np.testing.assert_array_equal(decoded(path), tile(0, seed=seed)[1])


def test_ids_are_unique_in_a_large_demo_and_do_not_count_up() -> None:
    ids = [int(planned.files[0][6:12]) for planned in _planned(Demo(tiles=3000, unlabeled=3000))]
    assert len(set(ids)) == 6000
    assert 100_000 <= min(ids) < max(ids) <= 999_999
    assert min(abs(np.diff(ids))) > 1000


def test_progress_counts_every_tile_and_a_whole_demo_is_not_written_again(demo: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_demo(tmp_path / "new", SMALL, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 7) for done in range(1, 8)]
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    assert write_demo(demo, SMALL, lambda *_: pytest.fail("a tile was written")) == demo
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before


def test_the_marker_holds_the_parameters(written: Path) -> None:
    assert json.loads((written / "demo.json").read_text()) == {
        "version": 1,
        "tiles": 5,
        "unlabeled": 2,
        "size": 48,
        "seed": 3,
    }


@pytest.mark.parametrize("marked", [True, False])
def test_an_interrupted_demo_is_completed(demo: Path, written: Path, marked: bool) -> None:
    if not marked:
        (demo / "demo.json").unlink()
    min((demo / "train").iterdir()).unlink()
    # As a killed process leaves it: unfinished, under a temporary name.
    (demo / "train" / ".123456_sat.jpg.1.aa.tmp").write_bytes(b"half")
    write_demo(demo, SMALL)
    (demo / "train" / ".123456_sat.jpg.1.aa.tmp").unlink()
    assert contents(demo) == contents(written)


def test_an_interrupted_demo_of_another_size_leaves_no_tile_behind(demo: Path, tmp_path: Path) -> None:
    (demo / "demo.json").unlink()
    larger = Demo(tiles=5, unlabeled=2, size=64, seed=3)
    write_demo(demo, larger)
    assert contents(demo) == contents(write_demo(tmp_path / "fresh", larger))


@pytest.mark.parametrize("change", [{"seed": 4}, {"tiles": 6}, {"size": 64}, {"unlabeled": 1}])
def test_another_demo_is_refused_and_left_alone(demo: Path, written: Path, change: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"another demo.*delete it or choose another folder"):
        write_demo(demo, Demo(**{"tiles": 5, "unlabeled": 2, "size": 48, "seed": 3, **change}))
    assert contents(demo) == contents(written)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"mine"),
        ("train/1_sat.jpg", b"a real one"),
        ("class_dict.csv", b"name,r,g,b\n\xff,1,2,3\n"),
    ],
)
def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*choose an empty folder"):
        write_demo(tmp_path, SMALL)
    assert contents(tmp_path) == {name: content}


def test_a_damaged_marker_and_a_file_in_the_way_are_refused(demo: Path) -> None:
    (demo / "demo.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot read .*delete it"):
        write_demo(demo, SMALL)
    with pytest.raises(DataError, match="is a file"):
        write_demo(demo / "demo.json", SMALL)


def test_processes_that_write_at_once_do_no_harm(written: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        folders = [pool.submit(write_demo, tmp_path / "demo", SMALL) for _ in range(2)]
        assert [folder.result() for folder in folders] == [tmp_path / "demo"] * 2
    assert contents(tmp_path / "demo") == contents(written)


@pytest.mark.parametrize("wrong", [{"tiles": 0}, {"unlabeled": -1}, {"size": 16}, {"tiles": 10**6}])
def test_impossible_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} of a demo must be"):
        Demo(**wrong)
