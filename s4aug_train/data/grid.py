"""Where on the ground the pixels of a raster lie."""

from dataclasses import dataclass

import numpy as np
from rasterio.crs import CRS

NEAR_PX = 0.5  # how far two grids may lie apart: whoever writes one may round it


@dataclass(frozen=True, eq=False)
class Grid:
    """The georeference of a raster.

    Args:
        size: (H, W) in px.
        crs: The coordinate system.
        matrix: [3, 3] float64, from corners of pixels (column, row, 1) to (x, y, 1); it has an inverse.
    """

    size: tuple[int, int]
    crs: CRS
    matrix: np.ndarray  # [3, 3] float64

    def displacement(self, mask: "Grid") -> str | None:
        """How a mask lies elsewhere than this image, by more than half a pixel at some corner; None if it does not.

        Corners are those of the pixels that both have, from the top left.
        """
        if not _same(self.crs, mask.crs):
            return f"its coordinate system is {_name(mask.crs)}, the image's {_name(self.crs)}"
        height, width = np.minimum(self.size, mask.size)
        corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)]).T
        moved = np.linalg.solve(self.matrix, mask.matrix @ corners)
        apart_px = np.abs(moved - corners).max()
        return f"its pixels lie up to {apart_px:.3g} px off the image's" if apart_px > NEAR_PX else None


def _same(one: CRS, other: CRS) -> bool:
    """Whether two systems are one, which files may describe in different words."""
    if one == other:
        return True
    code = one.to_epsg()
    return code is not None and code == other.to_epsg()


def _name(crs: CRS) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())[:60]
