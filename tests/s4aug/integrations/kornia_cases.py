"""Draws of the Kornia augmentation, and their motion in float64."""

import numpy as np
import torch

SIZE = (45, 61)
RANGES = {"degrees": (-40, 70), "translate": (0.2, 0.1), "scale": (0.7, 1.3, 0.8, 1.2), "shear": (-10, 12, -5, 8)}


def draw(augment, shape, **values):
    """The params of a draw, some of them set for every sample."""
    params = augment.forward_parameters(torch.Size(shape))
    for name, value in values.items():
        params[name] = torch.tensor(value, dtype=torch.float32).expand(params[name].shape).clone()
    return params


def exact_matrix(params):
    """The matrix of a draw in float64: shear about the centre, then scale, turn clockwise, shift."""
    rows = []
    for i in range(len(params["angle"])):
        angle = np.deg2rad(params["angle"][i].double().item())
        (cx, cy), (tx, ty), (sx, sy) = (params[n][i].double().tolist() for n in ("center", "translations", "scale"))
        kx, ky = (np.tan(np.deg2rad(params[n][i].double().item())) for n in ("shear_x", "shear_y"))
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        slant = np.array([[1, 0, 0], [-ky, 1, 0], [0, 0, 1]]) @ np.array([[1, -kx, 0], [0, 1, 0], [0, 0, 1]])
        there, back = np.eye(3), np.eye(3)
        there[:2, 2], back[:2, 2] = (-cx, -cy), (cx + tx, cy + ty)
        rows.append(back @ turn @ np.diag([sx, sy, 1]) @ slant @ there)
    return torch.from_numpy(np.stack(rows))


def ramp(height, width):
    """An image [1, 2, H, W] that shows the source (x, y) of each pixel."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([x, y])[None]
