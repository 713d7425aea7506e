"""The files that a raster's pixels come from."""

import os
from pathlib import Path

from .raster import open_raster

# What GDAL reads beside a file: nodata among other things, and a mask.
BESIDE = (".aux.xml", ".msk")


def parts_of(path: Path) -> list[Path]:
    """The files that a virtual raster (.vrt) is made of, as far as they are on disk; none for any other.

    Raises:
        UnreadableError: It is no raster.
    """
    if path.suffix.lower() != ".vrt":
        return []
    with open_raster(path) as raster:
        return [Path(name) for name in raster.files if Path(name) != path and Path(name).is_file()]


def fingerprint(path: Path) -> str:
    """Changes when the file is changed, or one that its pixels come from; opens no image but virtual ones.

    Raises:
        OSError: It is not there.
        UnreadableError: As in `parts_of`.
    """
    files = [path, *parts_of(path)]
    files += [beside for file in files for each in BESIDE if (beside := file.with_name(file.name + each)).is_file()]
    return "".join(f"{_state(file.stat())}:{file.resolve()}:" for file in dict.fromkeys(files))


def _state(stat: os.stat_result) -> str:
    return f"{stat.st_size}:{stat.st_mtime_ns}"
