"""Which rasters are predicted, and where their maps go."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .data.geomap import is_map
from .data.layouts import find_unlabeled
from .errors import DataError
from .files import real_path

MAP = ".tif"


@dataclass(frozen=True)
class Job:
    """A raster and where its maps go.

    Args:
        source: The raster.
        out: The map of labels.
    """

    source: Path
    out: Path

    @property
    def confidence(self) -> Path:
        """The map of confidence and entropy."""
        return self.out.with_name(f"{self.out.stem}_confidence.tif")

    @property
    def probabilities(self) -> Path:
        """The map of the probability of each class."""
        return self.out.with_name(f"{self.out.stem}_probabilities.tif")

    @property
    def maps(self) -> tuple[Path, Path, Path]:
        """All that there may be of it."""
        return self.out, self.confidence, self.probabilities


def jobs_of(inputs: Sequence[str | Path], out: Path) -> list[Job]:
    """The rasters that are meant, each with the name of its map.

    Args:
        inputs: Files, folders (with all folders in them; the masks of known layouts are left out) and globs. Maps that
            were made here are left out, but where one is named as a file.
        out: Folder of the maps; each is called as its raster, with .tif.

    Raises:
        DataError: There is no raster, or two would have one map, or a map would replace a raster.
    """
    found = [source for each in inputs for source in _sources(each)]
    by_place: dict[Path, Path] = {}
    for source in found:
        by_place.setdefault(real_path(source), source)
    sources = list(by_place.values())
    if not sources:
        raise DataError("no raster is named; give files, folders or globs")
    jobs = [Job(source, out / f"{source.stem}{MAP}") for source in sources]
    makers: dict[str, Path] = {}
    for job in jobs:
        for path in job.maps:
            if (other := makers.setdefault(_key(path), job.source)) != job.source:
                raise DataError(
                    f"{other} and {job.source} would both become {path}; predict them into different folders"
                )
    if replaced := [source for source in sources if _key(source) in makers]:
        raise DataError(f"a map would replace the raster {replaced[0]}; choose another folder with --out")
    return jobs


def _key(path: Path) -> str:
    """The same for names that some disks do not tell apart."""
    return unicodedata.normalize("NFC", str(real_path(path))).casefold()


def _sources(given: str | Path) -> list[Path]:
    path, text = Path(given), str(given)
    if path.is_dir() or (not path.exists() and any(sign in text for sign in "*?[")):
        # Where maps lie among rasters, those of an earlier time are no rasters.
        return [tile.image for tile in find_unlabeled(text, lambda file: file.suffix == MAP and is_map(file))]
    # A file that is not there is told when its turn comes, so that the others are done.
    return [path]
