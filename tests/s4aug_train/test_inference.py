import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4aug_train.data.normalization import Normalization
from s4aug_train.inference import Windows, predict_rows, starts

IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3, "measured")
CPU = torch.device("cpu")


class Blur(torch.nn.Module):
    """Shift-equivariant away from borders: a 3x3 convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        return self.conv(images / 255)


def predicted(network, tile, windows):
    rows = list(predict_rows(network, tile, IDENTITY, windows, device=CPU))
    assert [top for top, _ in rows] == list(np.cumsum([0, *[len(part) for _, part in rows[:-1]]]))
    return np.concatenate([part for _, part in rows])


@given(st.integers(1, 300), st.integers(1, 100), st.data())
def test_windows_cover_every_pixel_and_stay_inside(length, side, data):
    stride = data.draw(st.integers(1, side))
    first = starts(length, side, stride)
    covered = np.zeros(length, int)
    for start in first:
        assert start >= 0
        assert start + side <= max(length, side)
        covered[start : start + side] += 1
    assert (covered > 0).all()
    assert len(set(first)) == len(first)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([(16, 11), (32, 32), (64, 20), (40, 7)]))
def test_strips_are_the_mean_of_all_windows(height, width, window):
    side, stride = window
    tile = tile_of(height, width)
    network = Blur()
    total = np.zeros((4, height, width))
    for top in starts(height, side, stride):
        for left in starts(width, side, stride):
            cut = torch.from_numpy(tile.image[None, :, top : top + side, left : left + side]).float()
            with torch.no_grad():
                total[:, top : top + side, left : left + side] += network(cut).softmax(1)[0].double().numpy()
    labels = predicted(network, tile, Windows(side, stride, batch=3))
    margin = np.sort(total, 0)[-1] - np.sort(total, 0)[-2]
    agree = labels == total.argmax(0)
    assert (agree | (margin < 1e-5)).all()


def test_a_tile_smaller_than_the_window_is_one_forward():
    calls = []

    class Spy(Blur):
        def forward(self, images):
            calls.append(images.shape)
            return super().forward(images)

    predicted(Spy(), tile_of(40, 50), Windows(512, 341))
    assert calls == [(1, 3, 40, 50)]


def test_no_more_rows_are_held_than_a_row_of_windows():
    seen = []
    tile = tile_of(200, 30)

    class Rows(Blur):
        def forward(self, images):
            seen.append(images.shape[-2])
            return super().forward(images)

    for top, part in predict_rows(Rows(), tile, IDENTITY, Windows(32, 20), device=CPU):
        assert len(part) <= 32
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

    predicted(Spy(), tile, Windows())
    assert (seen[0][..., 10:] == 0).all()
    assert torch.isfinite(seen[0]).all()


@pytest.mark.parametrize("side", [31, 32, 33])
def test_odd_windows_work_with_the_real_network(side):
    from s4aug_train.model import UNet

    network = UNet(3, encoder="resnet18").eval()
    assert predicted(network, tile_of(45, 50), Windows(side, 20)).shape == (45, 50)


def tile_of(height, width):
    from s4aug_train.data.cache import Tile

    image = np.random.default_rng(height * 1000 + width).integers(0, 256, (3, height, width)).astype(np.uint8)
    return Tile("t", image, None, None, (), np.zeros((3, 3)))
