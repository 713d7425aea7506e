"""Make the pictures of README and docs, from the demo set and from the code: `python docs/make_pictures.py`."""

import math
from pathlib import Path

import numpy as np
import torch
from diagrams import DIAGRAMS
from house import HOUSE

from s4aug import AffineTransform, RandomAffine, View
from s4aug_train.data.raster import write_image
from s4aug_train.data.synthetic import mask_colours
from s4aug_train.data.terrain import render_tile
from s4aug_train.rng import stream_rng

OUTSIDE = (90, 40, 110)  # colour of pixels that are not real
GAP_PX = 6
SIDE_PX = 256
SMALL_PX = 160


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


def small_tile() -> torch.Tensor:
    """The middle of a demo tile, [1, 3, H, W] in 0..1."""
    tile, _ = render_tile(stream_rng(0, 3, "demo train"), SIDE_PX)
    cut = (SIDE_PX - SMALL_PX) // 2
    return torch.from_numpy(tile)[None, :, cut:-cut, cut:-cut].float() / 255


def validity_picture() -> np.ndarray:
    """Above: a tile with a hole, a view of it with the three paddings. Below: its mask, the view's, there and back."""
    tile = small_tile()
    y, x = torch.meshgrid(torch.arange(SMALL_PX), torch.arange(SMALL_PX), indexing="ij")
    seen = ((x - 60) ** 2 + (y - 95) ** 2 > 18**2)[None, None]
    motion = AffineTransform.from_params(angle=20.0, translation=(30.0, 14.0), scale=0.85, size=(SMALL_PX, SMALL_PX))
    views = {
        padding: View.of(tile, motion, valid=seen, padding=padding) for padding in ("fill", "border", "reflection")
    }
    view = views["fill"]
    back = view.restore(view.image)
    paddings = [shown(view.image, view.valid), *(shown(views[name].image) for name in ("border", "reflection"))]
    return grid([[shown(tile, seen), *paddings], [mask(seen), mask(view.valid), shown(*back), mask(back.valid)]])


def shears_picture() -> np.ndarray:
    """A tile, after each of the three shears of a turn by 30 degrees, and with the three undone."""
    room = 40
    wide = (SMALL_PX + 2 * room, SMALL_PX + 2 * room)
    corner = torch.tensor([-room])
    views = [View.of(small_tile(), AffineTransform.crop(corner, corner, wide, (SMALL_PX, SMALL_PX)))]
    half, full = math.tan(math.radians(15)), math.sin(math.radians(30))
    for shear in ([[1, half], [0, 1]], [[1, 0], [-full, 1]], [[1, half], [0, 1]]):
        before = views[-1]
        views.append(View.of(before.image, about_middle(shear, wide), valid=before.valid, mode="lifting"))
    undone = views[-1].image
    for view in views[:0:-1]:
        undone, valid = view.restore(undone)
    return grid([[*(shown(view.image, view.valid) for view in views), shown(undone, valid)]])


def about_middle(linear: list[list[float]], size: tuple[int, int]) -> AffineTransform:
    """A linear map about the middle of a frame."""
    part = torch.tensor(linear, dtype=torch.float64)[None]
    pivot = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=torch.float64)
    return AffineTransform.from_linear(part, pivot - part @ pivot, size, size)


if __name__ == "__main__":
    folder = Path(__file__).parent / "images"
    write_image(folder / "views.png", views_picture((10, 41)))
    write_image(folder / "demo.png", classes_picture(count=6))
    write_image(folder / "validity.png", validity_picture())
    write_image(folder / "shears.png", shears_picture())
    for name, diagram in {**DIAGRAMS, **HOUSE}.items():
        (folder / name).write_text(diagram())
