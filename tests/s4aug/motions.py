"""Motions that several tests make."""

import torch
from hypothesis import strategies as st

from s4aug import AffineTransform

# The paper's ranges, as `RandomAffine` takes them.
PAPER = {"degrees": 15, "translate": (0.2, 0.2), "scale": (0.75, 1.25)}
EYE = torch.eye(3, dtype=torch.float64)


def entries(low, high):
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def motions(draw, size=(12, 20), batch=2):
    """General affine motions of moderate strength from `size` to `size`."""
    columns = [
        [draw(entries(low, high)) for _ in range(batch)]
        for low, high in [(-360, 360), (-50, 50), (-50, 50), (0.3, 3), (0.3, 3), (-50, 50), (-30, 30)]
    ]
    values = torch.tensor(columns, dtype=torch.float64).T
    return AffineTransform.from_params(
        angle=values[:, 0], translation=values[:, 1:3], scale=values[:, 3:5], shear=values[:, 5:7], size=size
    )


def general(batch, size, generator, out_size=None):
    """Turned by any angle, scaled, sheared and shifted by up to a quarter of the frame."""
    random = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    t = AffineTransform.from_params(
        angle=360 * random[:, 0],
        translation=(random[:, 1:3] - 0.5) * min(size) * 0.5,
        scale=0.7 + 0.6 * random[:, 3:5],
        shear=30 * random[:, 5:7] - 15,
        size=size,
    )
    return AffineTransform(t.matrix, size, out_size)
