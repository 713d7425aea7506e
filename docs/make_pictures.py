"""Make the pictures of README and docs from the demo set: `python docs/make_pictures.py`."""

from pathlib import Path

import numpy as np
import torch

from s4aug import RandomAffine
from s4aug_train.data.raster import write_image
from s4aug_train.data.synthetic import mask_colours
from s4aug_train.data.terrain import render_tile
from s4aug_train.rng import stream_rng

OUTSIDE = (90, 40, 110)  # colour of pixels that are not real
GAP_PX = 6
SIDE_PX = 256


def views_picture(seeds: tuple[int, int]) -> np.ndarray:
    """Two rows: tile, view 1, its mask, view 1 undone; both undone views' mean, view 2, its mask, view 2 undone.

    Returns:
        [3, H, W] uint8.
    """
    tile, _ = render_tile(stream_rng(0, 3, "demo train"), SIDE_PX)
    images = torch.from_numpy(tile)[None].float() / 255
    perturb = RandomAffine(degrees=15, translate=(0.2, 0.2), scale=(0.75, 1.25))
    views = [perturb(images, seed=torch.tensor([seed])) for seed in seeds]
    undone = [view.restore(view.image) for view in views]
    both = undone[0].valid & undone[1].valid
    mean = (undone[0].image + undone[1].image) / 2
    first = [shown(images), shown(views[0].image, views[0].valid), mask(views[0].valid), shown(*undone[0])]
    second = [shown(mean, both), shown(views[1].image, views[1].valid), mask(views[1].valid), shown(*undone[1])]
    return grid([first, second])


def shown(image: torch.Tensor, valid: torch.Tensor | None = None) -> np.ndarray:
    """An image [1, 3, H, W] in 0..1 as uint8 [3, H, W], with pixels that are not real in one colour."""
    outside = torch.tensor(OUTSIDE)[:, None, None] / 255
    picture = image[0] if valid is None else torch.where(valid[0], image[0], outside)
    return (picture * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def mask(valid: torch.Tensor) -> np.ndarray:
    """A mask [1, 1, H, W] in white, on the colour of what is not real."""
    return shown(torch.ones(1, 3, *valid.shape[-2:]), valid)


def grid(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Pictures of one size in rows, on white."""
    side = rows[0][0].shape[1]
    step = side + GAP_PX
    canvas = np.full((3, step * len(rows) - GAP_PX, step * len(rows[0]) - GAP_PX), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            canvas[:, i * step : i * step + side, j * step : j * step + side] = picture
    return canvas


def classes_picture(count: int) -> np.ndarray:
    """Demo tiles above their masks."""
    pairs = [render_tile(stream_rng(0, i, "demo train"), SIDE_PX) for i in range(count)]
    return grid([[image for image, _ in pairs], [mask_colours(label) for _, label in pairs]])


if __name__ == "__main__":
    folder = Path(__file__).parent / "images"
    write_image(folder / "views.png", views_picture((10, 41)))
    write_image(folder / "demo.png", classes_picture(count=6))
