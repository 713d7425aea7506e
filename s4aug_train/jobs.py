"""Which rasters are predicted, and where their maps go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .data.layouts import find_unlabeled
from .errors import DataError


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


def jobs_of(inputs: Sequence[str | Path], out: Path) -> list[Job]:
    """The rasters that are meant, each with the name of its map.

    Args:
        inputs: Files, folders (with all folders in them; the masks of known layouts are left out) and globs.
        out: Folder of the maps; each is called as its raster, with .tif.

    Raises:
        DataError: There is no raster, or two would have one map, or a map would replace a raster.
    """
    sources = list(dict.fromkeys(source for each in inputs for source in _sources(each)))
    if not sources:
        raise DataError("no raster is named; give files, folders or globs")
    jobs = [Job(source, out / f"{source.stem}.tif") for source in sources]
    makers: dict[Path, Path] = {}
    for job in jobs:
        for path in (job.out, job.confidence, job.probabilities):
            if path in makers:
                raise DataError(
                    f"{makers[path]} and {job.source} would both become {path}; predict them into different folders"
                )
            makers[path] = job.source
    replaced = {path.resolve() for path in makers} & {source.resolve() for source in sources}
    if replaced:
        raise DataError(f"a map would replace the raster {min(replaced)}; choose another folder with --out")
    return jobs


def _sources(given: str | Path) -> list[Path]:
    path, text = Path(given), str(given)
    if path.is_dir() or (not path.exists() and any(sign in text for sign in "*?[")):
        return [tile.image for tile in find_unlabeled(text)]
    # A file that is not there is told when its turn comes, so that the others are done.
    return [path]
