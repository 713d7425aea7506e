"""Pictures of views: what is in each, read off the pixels of the picture itself."""

import numpy as np
import pytest
import torch

from s4aug import AffineTransform, RandomAffine, View
from s4aug_train import panels
from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.data.pool import Crops
from s4aug_train.panels import EDGE_PX, GAP_PX, GROUP_GAP_PX, HEAT, LINE_PX, REAL, draw_panel, stripes

NORMALIZATION = Normalization((100.0, 110.0, 120.0), (50.0, 55.0, 60.0), "given")
CLASSES = ClassTable((ClassEntry("field", (255, 200, 0)), ClassEntry("water", (0, 0, 255))))
SIDE = 64
ZOOM = 3
GROUPS = [
    ["crop"],
    ["view 1", "view 2"],
    ["valid 1", "valid 2"],
    ["undone 1", "undone 2", "compared"],
    ["prediction 1", "prediction 2", "disagreement"],
]


def make_crops(count=2, *, bands=3, size=(SIDE, SIDE), dtype=torch.uint8, valid=None, margin=0):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, bands, *size), generator=generator).to(dtype)
    return Crops(images, valid, None, tuple(map(str, range(count))), margin)


def view_of(crops, transform):
    normalize = (NORMALIZATION.mean, NORMALIZATION.std)
    return View.of(crops.images, transform, valid=crops.valid, normalize=normalize, dtype=torch.float32)


def identity(crops):
    return view_of(crops, AffineTransform.identity(len(crops.images), crops.size))


def cells(picture, row=0):
    """The pictures of a row by their captions, at the crop's own size."""
    found, left, top = {}, EDGE_PX, EDGE_PX + LINE_PX + row * (ZOOM * SIDE + GAP_PX)
    for group in GROUPS:
        for caption in group:
            found[caption] = picture[top : top + ZOOM * SIDE, left : left + ZOOM * SIDE]
            left += ZOOM * SIDE + GAP_PX
        left += GROUP_GAP_PX - GAP_PX
    return found


def enlarged(image):  # [3, h, w] -> [ZOOM h, ZOOM w, 3]
    return np.kron(np.moveaxis(np.asarray(image), 0, -1), np.ones((ZOOM, ZOOM, 1), np.uint8))


def flat(color):
    return np.broadcast_to(np.array(color, np.uint8), (ZOOM * SIDE, ZOOM * SIDE, 3))


GREY = stripes(ZOOM * SIDE, ZOOM * SIDE)


def test_a_view_that_moves_nothing_is_the_crop_and_so_is_what_is_undone():
    crops = make_crops()
    picture = draw_panel(crops, (identity(crops), identity(crops)), NORMALIZATION)
    for row in (0, 1):
        shown = cells(picture, row)
        for caption in ("crop", "view 1", "view 2", "undone 1", "undone 2"):
            np.testing.assert_array_equal(shown[caption], enlarged(crops.images[row]))
        for caption in ("valid 1", "valid 2", "compared"):
            np.testing.assert_array_equal(shown[caption], flat(REAL))


def test_what_a_shift_brings_in_or_takes_away_is_grey_and_the_rest_is_the_crop():
    crops = make_crops()
    shift = AffineTransform.shift(torch.tensor([[16.0, 0.0]] * 2), crops.size)
    shown = cells(draw_panel(crops, (identity(crops), view_of(crops, shift)), NORMALIZATION))
    edge = ZOOM * 16
    whole = enlarged(crops.images[0])
    np.testing.assert_array_equal(shown["view 2"][:, :edge], GREY[:, :edge])
    np.testing.assert_array_equal(shown["view 2"][:, edge:], whole[:, :-edge])
    np.testing.assert_array_equal(shown["undone 2"][:, -edge:], GREY[:, -edge:])
    np.testing.assert_array_equal(shown["undone 2"][:, :-edge], whole[:, :-edge])
    np.testing.assert_array_equal(shown["valid 2"], np.where((GREY > 0) & (np.arange(192) < edge)[:, None], GREY, REAL))
    np.testing.assert_array_equal(shown["compared"][:, -edge:], GREY[:, -edge:])
    np.testing.assert_array_equal(shown["compared"][:, :-edge], flat(REAL)[:, :-edge])
    np.testing.assert_array_equal(shown["undone 1"], whole)


def test_pixels_that_are_not_real_are_grey_everywhere():
    valid = torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool)
    valid[0, :, :20] = False
    crops = make_crops(valid=valid)
    views = (identity(crops), identity(crops))
    predictions = (torch.zeros(2, 2, SIDE, SIDE),) * 2
    shown = cells(draw_panel(crops, views, NORMALIZATION, classes=CLASSES, predictions=predictions))
    for caption, cell in shown.items():
        np.testing.assert_array_equal(cell[: ZOOM * 20], GREY[: ZOOM * 20], err_msg=caption)
        assert (cell[ZOOM * 20 :] != GREY[ZOOM * 20 :]).any(-1).all(), caption


@pytest.mark.parametrize("stride", [1, 4])
def test_predictions_have_their_class_colour_and_disagreement_goes_from_0_to_1(stride):
    crops = make_crops()
    field = torch.tensor([100.0, 0.0])[None, :, None, None].expand(2, 2, SIDE // stride, SIDE // stride)
    water = field.flip(1)
    views = (identity(crops), identity(crops))
    shown = cells(draw_panel(crops, views, NORMALIZATION, classes=CLASSES, predictions=(field, water)))
    np.testing.assert_array_equal(shown["prediction 1"], flat((255, 200, 0)))
    np.testing.assert_array_equal(shown["prediction 2"], flat((0, 0, 255)))
    np.testing.assert_array_equal(shown["disagreement"], flat(HEAT[-1]))
    shown = cells(draw_panel(crops, views, NORMALIZATION, classes=CLASSES, predictions=(field, field)))
    np.testing.assert_array_equal(shown["disagreement"], flat(HEAT[0]))


def test_predictions_are_undone():
    crops = make_crops()
    left = torch.full((2, 2, SIDE, SIDE), -100.0)
    left[:, 0, :, : SIDE // 2] = left[:, 1, :, SIDE // 2 :] = 100.0  # field in the left half, water in the right
    views = (identity(crops), view_of(crops, AffineTransform.hflip(2, crops.size)))
    shown = cells(draw_panel(crops, views, NORMALIZATION, classes=CLASSES, predictions=(left, left.flip(-1))))
    np.testing.assert_array_equal(shown["prediction 1"], shown["prediction 2"])
    np.testing.assert_array_equal(shown["disagreement"], flat(HEAT[0]))


@pytest.mark.parametrize("bands", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.float32])
@pytest.mark.parametrize("size", [(33, 33), (65, 97), (300, 1)])
def test_any_bands_dtype_and_size_can_be_drawn(bands, dtype, size):
    crops = make_crops(bands=bands, size=size, dtype=dtype)
    normalization = Normalization((128.0,) * bands, (64.0,) * bands, "measured")
    perturb = RandomAffine(degrees=15, translate=(0.2, 0.2))
    images = normalization.apply(crops.images, None)
    views = tuple(perturb(images, seed=torch.tensor([seed, seed + 1])) for seed in (1, 5))
    picture = draw_panel(crops, views, normalization)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture != 255).any()
    colourless = (picture == picture[..., :1]).all(-1) | (picture == np.array(REAL)).all(-1)
    assert colourless.all() == (bands < 3)


def test_other_pixels_than_bytes_are_stretched_by_percentiles_of_what_is_real():
    values = torch.arange(SIDE * SIDE).reshape(1, 1, SIDE, SIDE) + 5000
    values[0, 0, 0, 0], values[0, 0, 0, 1] = 60000, 0  # outliers
    valid = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
    valid[..., SIDE // 2 :, :] = False
    values = torch.where(valid, values, 65535)
    for dtype in (torch.uint16, torch.float32):
        crops = Crops(values.to(dtype), valid, None, ("0",))
        contrast = panels.Contrast.of(crops)
        real = values[valid].numpy()
        np.testing.assert_allclose((contrast.low[0], contrast.high[0]), np.percentile(real, (2, 98)))
        middle = contrast.colors(torch.full((1, 1, 1, 1), float(np.median(real))))
        np.testing.assert_allclose(middle, np.full((1, 1, 1, 3), 127.5), atol=1)


@pytest.mark.parametrize("value", [7.0, float("nan")])
def test_pixels_that_are_all_alike_or_no_numbers_are_drawn(value):
    images = torch.full((1, 1, SIDE, SIDE), value)
    crops = Crops(images, None, None, ("0",))
    view = View.of(images, AffineTransform.identity(1, crops.size))
    shown = cells(draw_panel(crops, (view, view), Normalization((0.0,), (1.0,), "given")))
    np.testing.assert_array_equal(shown["crop"], flat((0, 0, 0)))


def test_four_crops_are_shown_at_most():
    heights = []
    for count in (1, 4, 6):
        crops = make_crops(count)
        heights.append(draw_panel(crops, (identity(crops), identity(crops)), NORMALIZATION).shape[0])
    assert heights[1] == heights[2] == heights[0] + 3 * (ZOOM * SIDE + GAP_PX)


def test_what_lies_around_a_crop_is_seen_in_views_alone():
    crops = make_crops(size=(SIDE + 16, SIDE + 16), margin=8)
    shift = AffineTransform.shift(torch.tensor([[8.0, 8.0]] * 2), crops.size)
    normalize = (NORMALIZATION.mean, NORMALIZATION.std)
    view = View.of(crops.images, shift @ crops.frame(), normalize=normalize, dtype=torch.float32)
    view = View(view.image, view.valid, shift)
    shown = cells(draw_panel(crops, (view, view), NORMALIZATION))
    np.testing.assert_array_equal(shown["crop"], enlarged(crops.images[0, :, 8:-8, 8:-8]))
    np.testing.assert_array_equal(shown["view 1"], enlarged(crops.images[0, :, :-16, :-16]))


def test_drawing_changes_nothing_that_it_is_given():
    valid = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) > 0.2
    crops = make_crops(valid=valid)
    view, logits = identity(crops), torch.rand(2, 2, SIDE, SIDE)
    given = (crops.images, crops.valid, view.image, view.valid, logits)
    before = [tensor.clone() for tensor in given]
    draw_panel(crops, (view, view), NORMALIZATION, classes=CLASSES, predictions=(logits, logits))
    assert all(map(torch.equal, given, before))


def test_a_legend_of_many_classes_takes_more_lines():
    crops = make_crops()
    many = ClassTable(tuple(ClassEntry(f"land of kind {value}", value=value) for value in range(40)))
    heights = [
        draw_panel(
            crops,
            (identity(crops), identity(crops)),
            NORMALIZATION,
            classes=classes,
            predictions=(torch.zeros(2, len(classes.names), SIDE, SIDE),) * 2,
        ).shape[0]
        for classes in (CLASSES, many)
    ]
    assert heights[1] > heights[0]
