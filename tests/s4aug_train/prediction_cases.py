"""Small rasters, and a network of one layer that predicts them."""

import numpy as np
import rasterio
import torch

from s4aug_train.data.normalization import Normalization
from s4aug_train.data.palette import ClassEntry, ClassTable
from s4aug_train.jobs import jobs_of
from s4aug_train.prediction import MapRequest, predict_maps
from s4aug_train.segmenter import Segmenter
from s4aug_train.windows import Windows

TABLE = ClassTable(tuple(ClassEntry(name, (10 * i, 20 * i, 5)) for i, name in enumerate("abcd")))
IDENTITY = Normalization((0.0,) * 3, (1.0,) * 3, "measured")
SMALL = MapRequest(Windows(64, 48, batch=3, smooth=True), confidence=True, probabilities=True)
PLACE = {
    "crs": "EPSG:32652",
    "transform": rasterio.Affine.translation(5e5, 4e6) @ rasterio.Affine.rotation(20) @ rasterio.Affine.scale(10, -10),
}


class Pointwise(torch.nn.Module):
    """Probabilities that depend on the pixel alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return self.conv(images / 64)


def segmenter(weights="0123", classes=TABLE, dtype="uint8"):
    return Segmenter(Pointwise().eval(), classes, 3, dtype, IDENTITY, torch.device("cpu"), weights=weights)


def write(path, image, **profile):
    count, height, width = image.shape
    shape = {"count": count, "height": height, "width": width, "dtype": image.dtype, "driver": "GTiff"}
    with rasterio.open(path, "w", **shape, **profile) as dataset:
        dataset.write(image)
    return path


def image_of(height=150, width=210, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (3, height, width)).astype(np.uint8)


def make(paths, out, request=SMALL, who=None, **options):
    return list(predict_maps(who or segmenter(), jobs_of(paths, out), request, **options))


def expected_probabilities(image):
    with torch.no_grad():
        return Pointwise()(torch.from_numpy(image)[None].float())[0].softmax(0).numpy()
