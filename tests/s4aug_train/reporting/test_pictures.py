"""Pictures hold the colours of what they show, stripes where nothing is known, and no more pixels than they need."""

import base64
import io

import numpy as np
from PIL import Image

from s4aug_train.panels import heat, stripes
from s4aug_train.reporting.pictures import SIDE_PX, heat_picture, image_picture, label_picture

COLORS = ((200, 30, 30), (240, 220, 60))


def decoded(picture):
    head, _, content = picture.uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{image.format.lower()};base64"
    assert image.size == picture.size
    return np.asarray(image)


def test_labels_have_exactly_the_colours_of_their_classes_and_stripes_where_unknown():
    labels = np.random.default_rng(0).integers(0, 2, (40, 60), np.uint8)
    labels[:9] = 255
    picture = label_picture(labels, ("urban", "field"), COLORS, "Truth of tile 7")
    shown = decoded(picture)
    assert np.array_equal(shown[9:], np.array(COLORS, np.uint8)[labels[9:]])
    assert np.array_equal(shown[:9], stripes(40, 60)[:9])
    share = (labels[9:] == 0).mean()
    first = ("urban", share) if share > 0.5 else ("field", 1 - share)
    assert picture.text.startswith(f"Truth of tile 7: {first[0]} {100 * first[1]:.0f} %, ")


def test_nothing_known_is_told():
    assert label_picture(np.full((4, 4), 255, np.uint8), ("a",), ((1, 2, 3),), "Truth").text == "Truth: nothing known"


def test_large_and_long_tiles_become_small_and_keep_their_shape(make_tile):
    wide = decoded(image_picture(make_tile((40, 4000))))
    assert wide.shape[1] == SIDE_PX
    assert wide.shape[0] == round(40 * SIDE_PX / 4000)
    thin = decoded(image_picture(make_tile((1, 2000))))
    assert thin.shape[0] == 1


def test_a_tile_is_shown_as_it_is_and_striped_where_not_real(make_tile):
    valid = np.ones((32, 32), bool)
    valid[:, :16] = False
    tile = make_tile((32, 32), valid=valid)
    tile.image[:] = np.array([40, 90, 160])[:, None, None]
    shown = decoded(image_picture(tile)).astype(int)
    assert np.abs(shown[:, 22:] - [40, 90, 160]).max() <= 6
    assert np.abs(shown[:, :10] - stripes(32, 32)[:, :10]).mean() <= 6


def test_images_of_any_bands_and_types_are_shown(make_tile):
    for bands, dtype in ((1, np.uint8), (2, np.uint16), (4, np.uint16), (3, np.float32)):
        shown = decoded(image_picture(make_tile((20, 20), bands=bands, dtype=dtype)))
        assert shown.shape == (20, 20, 3)
        assert np.ptp(shown) > 100
    tile = make_tile((20, 20), dtype=np.float32)
    tile.image[:, 5] = np.nan
    assert np.ptp(decoded(image_picture(tile))) > 100


def test_entropy_has_the_colours_of_its_scale():
    shown = decoded(heat_picture(np.full((16, 16), 0.7), np.ones((16, 16), bool), "entropy")).astype(int)
    assert np.abs(shown - heat(np.array(0.7))).max() <= 6
