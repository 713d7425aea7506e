"""Cells of a lower resolution stand in the middle of their pixels, also where the last one is cut off."""

import pytest
import torch

from s4aug_train.model import at_size


@pytest.mark.parametrize("size", [(64, 96), (61, 93), (33, 34)])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_a_ramp_over_cells_is_the_ramp_over_pixels(size, stride):
    rows, columns = (-(-side // stride) for side in size)
    middle = torch.arange(columns) * stride + (stride - 1) / 2  # px, of a cell's pixels
    cells = middle.expand(1, 1, rows, columns)
    shown = at_size(cells, size)
    assert shown.shape == (1, 1, *size)
    # Bilinear interpolation is exact on a ramp, between the first and the last middle.
    pixels = torch.arange(size[1], dtype=torch.float32)
    inner = (pixels >= middle[0]) & (pixels <= middle[-1])
    torch.testing.assert_close(shown[0, 0, 0, inner], pixels[inner])
