"""What is known of the data before the first run: enough to refuse, to decode once, and to tell the paper's apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..config import Config
from ..data.dataset import Progress, class_table, division_of, list_tiles, load_dataset
from ..data.palette import DEEPGLOBE
from ..data.raster import read_info
from ..data.split import read_groups
from ..errors import DataError
from ..files import content_hash
from ..model import read_encoder_weights
from . import paper


@dataclass(frozen=True)
class Survey:
    """A data set as far as file names and one header tell.

    Args:
        training: Tiles with a mask that are not held out.
        val: Tiles that are.
        size: (H, W) of the first tile, px.
        bands: Of its image.
        classes: Names.
        name: The folder, or demo.
    """

    training: int
    val: int
    size: tuple[int, int]
    bands: int
    classes: tuple[str, ...]
    name: str

    def differences(self) -> Iterator[str]:
        """What is not DeepGlobe as the paper used it."""
        pairs = self.training + self.val
        theirs = (paper.PAIRS, (paper.SIDE_PX, paper.SIDE_PX))
        if (pairs, self.size) != theirs:
            what = "made-up tiles" if self.name == "demo" else "tiles"
            yield (
                f"{pairs} {what} of {self.size[0]} x {self.size[1]} px instead of DeepGlobe's {paper.PAIRS} of "
                f"{paper.SIDE_PX} x {paper.SIDE_PX}"
            )
        if {*self.classes} != {*DEEPGLOBE.names}:
            yield f"classes {', '.join(self.classes)} instead of {', '.join(DEEPGLOBE.names)}"
        if self.val != paper.VALIDATION:
            yield f"{self.val} validation tiles instead of {paper.VALIDATION}"


def surveyed(config: Config, labels: Sequence[int], on_progress: Progress | None = None) -> Survey:
    """Look at a data set, without decoding it.

    Args:
        config: Of any run of the grid.
        labels: Numbers of labelled tiles that the grid wants.
        on_progress: As in `load_dataset`.

    Raises:
        DataError: The folder cannot be read, has no class table, or too few tiles for `labels`.
    """
    listing = list_tiles(config.data, on_progress)
    classes = class_table(listing, config.data)
    training, val, _ = division_of(listing, read_groups(listing.root), config.data)
    wanted = max(labels)
    # One at least is left without its label.
    if wanted >= training:
        fitting = [str(count) for count in labels if count < training] or [str(max(1, training // 2))]
        raise DataError(
            f"{wanted} labelled tiles are wanted, but {config.data.path} has {training} training tiles with a mask "
            f"({val} are held out), some of which must stay unlabelled; use --labels {','.join(fitting)}"
            + ("" if training > 1 else ", and give more tiles with masks")
        )
    first = read_info(listing.labelled[0].image)
    return Survey(training, val, first.size, first.bands, classes.names, config.data.path)


def decoded(config: Config, on_progress: Progress | None = None) -> str:
    """Decode all tiles into the cache and fetch pretrained weights, so that what is wrong is told once.

    Args:
        config: Of any run of the grid.
        on_progress: As in `load_dataset`.

    Returns:
        A hash of the tiles, by id, class pixels and what is held out; the same for all runs.

    Raises:
        S4AugTrainError: As `fit` would for its data and weights.
    """
    read_encoder_weights(config.model.encoder, config.model.weights)
    dataset = load_dataset(config.data, config.train.seed, workers=config.train.workers, on_progress=on_progress)
    tiles = [*dataset.labeled, *dataset.unlabeled, *dataset.val]
    held = {tile.id: [*tile.size, *tile.class_pixels] for tile in tiles}
    return content_hash({"tiles": held, "val": sorted(dataset.split.val), "classes": dataset.classes.names})
