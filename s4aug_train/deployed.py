"""A network as others use it: from pixels as they are stored to probabilities, whatever the size."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data.normalization import Normalization
from .model import STRIDE, OwnNetwork


class Deployed(nn.Module):
    """Normalisation, padding, network, interpolation and softmax in one, made to be traced once for all sizes.

    It is what `Segmenter` does, in steps that a tracer can follow without tying sizes to those of its example.

    Args:
        network: As in `Segmenter`.
        normalization: As in training.
        stride: Pixels from logit to logit.
    """

    mean: Tensor  # [1, bands, 1, 1]
    std: Tensor  # [1, bands, 1, 1]

    def __init__(self, network: nn.Module, normalization: Normalization, stride: int) -> None:
        super().__init__()
        # What it does with sizes is done here.
        self.network = network.network if isinstance(network, OwnNetwork) else network
        self.stride = stride
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(normalization, name))[None, :, None, None])

    def forward(self, image: Tensor) -> Tensor:  # [B, bands, H, W] -> [B, K, H, W]
        """Probabilities by float32 pixels in units of the source; a pixel with a NaN or an infinity is not real."""
        height, width = image.shape[-2:]
        real = image.isfinite().all(1, keepdim=True)
        inputs = torch.where(real, (image - self.mean) / self.std, 0.0)
        rows, columns = _padded(height), _padded(width)
        logits: Tensor = self.network(inputs.index_select(2, rows).index_select(3, columns))
        if self.stride > 1:
            cells = [torch.arange(_cells(side, self.stride)) for side in (height, width)]
            logits = logits.index_select(2, cells[0]).index_select(3, cells[1])
            logits = F.interpolate(logits, scale_factor=float(self.stride), mode="bilinear", align_corners=False)
        whole = logits.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))
        return whole.softmax(1)


def _padded(side: int) -> Tensor:  # [n * 32]
    """Places 0, 1, ..., with the last repeated up to a multiple of 32."""
    return torch.arange(STRIDE * _cells(side, STRIDE)).clamp(max=side - 1)


def _cells(side: int, stride: int) -> int:
    """Of a stride that cover a side: a number that the tracer knows nothing of but that it is at least 1.

    By a formula, and the sides of its example, the tracer would take all sides to be multiples of 32, or none. The
    number to divide is not negative, for ONNX divides towards 0.
    """
    cells: Any = torch.scalar_tensor((side + stride - 1) // stride, dtype=torch.int64).item()
    torch._check(cells >= 1)
    return cells  # type: ignore[no-any-return]
