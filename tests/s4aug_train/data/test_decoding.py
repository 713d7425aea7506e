import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4aug_train.data.decoding import observed
from s4aug_train.data.palette import DEEPGLOBE, IGNORE, ClassEntry, ClassTable
from s4aug_train.data.raster import read_image, read_info

DATA = Path(os.environ.get("S4AUG_DATA", Path(__file__).parents[4] / "shared" / "data"))
DUBAI = ClassTable(
    (
        ClassEntry("building", (60, 16, 152)),
        ClassEntry("land", (132, 41, 246)),
        ClassEntry("unlabeled", (155, 155, 155), ignored=True),
        ClassEntry("water", (226, 169, 41)),
    )
)
VALUES = ClassTable((ClassEntry("a", value=10), ClassEntry("none", value=0, ignored=True), ClassEntry("b", value=1000)))


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


def test_colours_far_from_a_corner_are_none_of_a_table_that_is_not_deepglobes():
    table = ClassTable((ClassEntry("background", (255, 255, 255)), ClassEntry("road", (255, 255, 0))))
    named = [(255, 255, 255), (255, 255, 0), (240, 200, 20), (255, 0, 0), (159, 129, 183), (255, 195, 128), (64, 0, 0)]
    pixels = np.array(named, np.uint8)[np.random.default_rng(0).integers(0, len(named), (29, 31))]
    labels, off = table.decode(pixels.transpose(2, 0, 1))
    known = {named[0]: 0, named[1]: 1, named[2]: 1}
    expected = [[known.get(tuple(color), IGNORE) for color in row] for row in pixels.tolist()]
    np.testing.assert_array_equal(labels, expected)
    counted = Counter(tuple(color) for row in pixels.tolist() for color in row)
    assert off == {",".join(map(str, color)): counted[color] for color in named[3:]}


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
            ",".join(map(str, colors[index])): count for index, count in Counter(indices.ravel().tolist()).items()
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
    raw = np.ascontiguousarray(colors[np.random.default_rng(0).integers(0, 4, (2448, 2448))].transpose(2, 0, 1))
    table.decode(raw)
    best = min(timed(lambda: table.decode(raw)) for _ in range(5))
    assert best < 0.3


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_decoding_changes_neither_mask_nor_table():
    raw = np.random.default_rng(0).integers(0, 256, (3, 20, 20)).astype(np.uint8)
    before = raw.copy()
    DEEPGLOBE.decode(raw)
    DUBAI.decode(raw)
    observed(raw)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.skipif(not (DATA / "deepglobe512").is_dir(), reason="set S4AUG_DATA to the folder of deepglobe512")
@pytest.mark.parametrize(("every", "pixels", "pictures"), [(10, 3, 2), pytest.param(1, 27, 12, marks=pytest.mark.slow)])
def test_deepglobe512_has_27_red_pixels_in_12_masks(every, pixels, pictures):
    red: Counter[str] = Counter()
    masks = sorted((DATA / "deepglobe512" / "train").glob("*_mask.png"))
    for path in masks[::every]:
        _, off = DEEPGLOBE.decode(read_image(path))
        assert set(off) <= {"255,0,0"}
        red.update({path.name: off.get("255,0,0", 0)})
    assert len(masks) >= 1622
    assert red.total() == pixels
    assert sum(count > 0 for count in red.values()) == pictures
