import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.inference import TilePixels, predict_pieces
from s4aug_train.segmenter import Segmenter
from s4aug_train.tta import Averaging
from s4aug_train.windows import Windows

IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3, "measured")
FOUR = ClassTable(tuple(ClassEntry(name, value=i) for i, name in enumerate("abcd")))


def segmenter_of(network, classes=FOUR):
    return Segmenter(network, classes, 3, "uint8", IDENTITY, torch.device("cpu"))


class Blur(torch.nn.Module):
    """Shift-equivariant away from borders: a 3x3 convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        return self.conv(images / 255)


def probabilities(network, tile, windows, **options):
    """All pieces put together; they must have no gap and no overlap."""
    height, width = tile.size
    whole, seen = np.zeros((4, height, width)), np.zeros((height, width), int)
    for piece in predict_pieces(segmenter_of(network), TilePixels(tile), windows, **options):
        rows = slice(piece.top, piece.top + piece.probabilities.shape[1])
        columns = slice(piece.left, piece.left + piece.probabilities.shape[2])
        whole[:, rows, columns] = piece.probabilities.numpy()
        seen[rows, columns] += 1
    assert (seen == 1).all()
    return whole


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([(16, 11), (32, 32), (64, 20), (40, 7)]), st.booleans())
def test_what_comes_out_is_the_weighted_mean_of_all_windows(height, width, window, smooth):
    side, stride = window
    tile = tile_of(height, width)
    network, windows = Blur(), Windows(side, stride, batch=3, smooth=smooth)
    total = np.zeros((4, height, width))
    for row in windows.spans(height):
        for column in windows.spans(width):
            cut = torch.from_numpy(tile.image[None, :, row.start : row.stop, column.start : column.stop])
            with torch.no_grad():
                part = network(cut.float()).softmax(1)[0].double().numpy()
            weight = row.weight[:, None] * column.weight
            total[:, row.start : row.stop, column.start : column.stop] += part * weight
    assert probabilities(network, tile, windows) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("size", [(300, 333), (129, 640)])
def test_no_seam_is_left_by_a_network_that_sees_no_farther_than_the_context(size):
    # Of overlap 64 a quarter at each window's edge is context; nine layers of 3 x 3 see 9 px.
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3, padding=1), *(torch.nn.Conv2d(4, 4, 3, padding=1) for _ in range(8))]
    network = torch.nn.Sequential(*(module for layer in layers for module in (layer, torch.nn.Tanh())))
    tile = tile_of(*size)
    whole = probabilities(network, tile, Windows(1024, 1024))
    assert probabilities(network, tile, Windows(128, 64, smooth=True)) == pytest.approx(whole, abs=1e-6)
    # The plain mean does leave seams, so the test above could fail.
    assert np.abs(probabilities(network, tile, Windows(128, 64)) - whole).max() > 1e-3


def test_the_real_network_sees_the_same_in_smooth_windows_as_in_one():
    from s4aug_train.model import UNet

    torch.manual_seed(0)
    network, tile = UNet(4, encoder="resnet18").eval(), tile_of(70, 700)
    whole = probabilities(network, tile, Windows(1024, 1024))
    smooth = np.abs(probabilities(network, tile, Windows(512, 256, smooth=True)) - whole)
    plain = np.abs(probabilities(network, tile, Windows(512, 256)) - whole)
    assert smooth.mean() < plain.mean() / 3


def test_a_raster_wider_than_a_panel_is_predicted_as_if_it_were_none(monkeypatch):
    tile, windows = tile_of(90, 300), Windows(64, 48, batch=2, smooth=True)
    whole = probabilities(Blur(), tile, windows)
    monkeypatch.setattr("s4aug_train.inference.PANEL_PX", 77)
    assert probabilities(Blur(), tile, windows) == pytest.approx(whole, abs=1e-6)


def test_each_pixel_is_read_once(make_tile):
    reads = []

    class Counted(TilePixels):
        def read(self, window):
            reads.append(window)
            return super().read(window)

    tile = tile_of(200, 150)
    for _ in predict_pieces(segmenter_of(Blur()), Counted(tile), Windows(64, 40)):
        pass
    assert sum(height * width for _, _, height, width in reads) == 200 * 150


def test_a_tile_smaller_than_the_window_is_one_forward():
    calls = []

    class Spy(Blur):
        def forward(self, images):
            calls.append(images.shape)
            return super().forward(images)

    probabilities(Spy(), tile_of(40, 50), Windows(512, 341))
    assert calls == [(1, 3, 40, 50)]


def test_no_more_rows_are_held_than_a_row_of_windows():
    seen = []
    tile = tile_of(200, 30)

    class Rows(Blur):
        def forward(self, images):
            seen.append(images.shape[-2])
            return super().forward(images)

    for piece in predict_pieces(segmenter_of(Rows()), TilePixels(tile), Windows(32, 20)):
        top = piece.top
        assert piece.probabilities.shape[1] <= 32
        # A strip comes out as soon as its rows are final, not at the end.
        assert len(seen) * 20 >= top
        assert (len(seen) - 1) * 20 <= top + 32
    assert max(seen) == 32


def test_nodata_is_seen_as_the_mean(make_tile):
    valid = np.ones((20, 20), bool)
    valid[:, 10:] = False
    tile = make_tile((20, 20), dtype=np.float32, valid=valid)
    tile.image[:, :, 10:] = np.nan
    seen = []

    class Spy(Blur):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    probabilities(Spy(), tile, Windows())
    assert (seen[0][..., 10:] == 0).all()
    assert torch.isfinite(seen[0]).all()


@pytest.mark.parametrize("tta", [None, Averaging(flips=True)])
def test_windows_without_a_real_pixel_are_not_predicted(make_tile, tta):
    valid = np.zeros((200, 150), bool)
    valid[90:150, 20:60] = True
    valid[199, 149] = True
    seen = []

    class Spy(Blur):
        def forward(self, images):
            seen.extend(images)
            return super().forward(images)

    tile, windows = make_tile((200, 150), valid=valid), Windows(32, 24, batch=3, smooth=True)
    found = probabilities(Spy(), tile, windows, tta=tta)
    spans = [windows.spans(side) for side in tile.size]
    real = [(r, c) for r in spans[0] for c in spans[1] if valid[r.start : r.stop, c.start : c.stop].any()]
    assert len(seen) == len(real) * (1 if tta is None else 4)
    assert 0 < len(real) < len(spans[0]) * len(spans[1]) / 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s4aug_train.inference.Strip.is_real", lambda self, left, right: True)
        whole = probabilities(Blur(), tile, windows, tta=tta)
    assert found[:, valid] == pytest.approx(whole[:, valid], abs=1e-6)


@pytest.mark.parametrize("side", [31, 32, 33])
def test_odd_windows_work_with_the_real_network(side):
    from s4aug_train.model import UNet

    network = UNet(4, encoder="resnet18").eval()
    assert probabilities(network, tile_of(45, 50), Windows(side, 20)).shape == (4, 45, 50)


def tile_of(height, width):
    from s4aug_train.data.cache import Tile

    image = np.random.default_rng(height * 1000 + width).integers(0, 256, (3, height, width)).astype(np.uint8)
    return Tile("t", image, None, None, (), np.zeros((3, 3)))
