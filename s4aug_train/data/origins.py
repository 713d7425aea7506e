"""The files that a raster's pixels come from."""

import os
from collections.abc import Sequence
from pathlib import Path

from .raster import explained, open_raster

# What GDAL reads beside a file: nodata among other things, and a mask.
MASK = ".msk"
BESIDE = (".aux.xml", MASK)


def parts_of(path: Path) -> list[Path]:
    """The files that a virtual raster (.vrt) is made of, as far as they are on disk; none for any other.

    Raises:
        UnreadableError: It is no raster.
    """
    if path.suffix.lower() != ".vrt":
        return []
    found = {path.resolve(): None}
    left = [path]
    while left:
        virtual = left.pop()
        with open_raster(virtual) as raster, explained(virtual):
            names = [Path(name).resolve() for name in raster.files]
        new = [name for name in names if name.is_file() and name not in found]
        found |= dict.fromkeys(new)
        left += [name for name in new if name.suffix.lower() == ".vrt"]
    return list(found)[1:]


def beside_of(path: Path, kinds: Sequence[str] = BESIDE) -> list[Path]:
    """The files of `BESIDE` that a file has; none of a name that would be too long."""
    return [Path(name) for kind in kinds if os.path.isfile(name := f"{path}{kind}")]


def fingerprint(path: Path) -> str:
    """Changes when the file is changed, or one that its pixels come from; opens no image but virtual ones.

    Raises:
        OSError: It is not there.
        UnreadableError: As in `parts_of`.
    """
    files = [path, *parts_of(path)]
    files += [beside for file in files for beside in beside_of(file)]
    states = ((file.stat(), file) for file in files)
    return ":".join(dict.fromkeys(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}" for stat, file in states))
