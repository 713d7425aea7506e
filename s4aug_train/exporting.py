"""Export: a trained network in a format that others read, checked against the original before it is there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import DataConfig
from .data.dataset import Progress, list_tiles
from .data.layouts import TileFile, find_unlabeled
from .data.raster import read_image, read_info, read_valid
from .description import Description
from .engine import Checkpoint
from .errors import DataError, ExportError
from .files import atomic_path
from .formats import Format, format_of
from .model import OwnNetwork
from .parity import Parity, Sample, compare, random_samples
from .run import find_checkpoint
from .segmenter import Segmenter, weights_hash

LIMIT = 1e-4  # of the difference of a probability
REAL = 4  # tiles that are compared
STEPS = 3  # written, compared on random and on real images


@dataclass(frozen=True)
class Export:
    """What came of an export.

    Args:
        path: The file.
        format: Its format.
        size: Of the file, bytes.
        step: Of the checkpoint.
        weights: SHA-256 of the weights.
        parities: On random images, and on tiles of the run's data where they are there.
        without_real: Why none of these was compared; None if some were.
    """

    path: Path
    format: str
    size: int
    step: int
    weights: str
    parities: tuple[Parity, ...]
    without_real: str | None

    def to_json(self) -> dict[str, Any]:
        """As printed by `export --json`."""
        return {**asdict(self), "path": str(self.path)}


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    format: str,
    model: nn.Module | str | None = None,
    data: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Export:
    """Write the network of a run folder's last checkpoint, or of a checkpoint file, for use elsewhere.

    The file is run and compared with the network in PyTorch before it appears under its name.

    Args:
        checkpoint: Run folder or checkpoint.
        out: The file to write, .onnx, .pt2 (torch-export) or .safetensors.
        format: "onnx", "torch-export" or "safetensors".
        model: The network that the run trained, or its name, where it was one of the user's.
        data: Folder of tiles to compare on; by default those of the run, where they are there.
        on_progress: As in `fit`.

    Returns:
        The file, and how far its probabilities are from those of the network.

    Raises:
        CheckpointError: There is no such checkpoint.
        ConfigError: There is no such format, or one of its packages is missing.
        ExportError: The network cannot be traced, or the file computes something else; nothing is left of it.
        S4AugTrainError: The file cannot be written.
    """
    path = Path(out)
    form = format_of(format, path)
    form.check()
    found = Checkpoint.read(find_checkpoint(Path(checkpoint)))
    folder = None if data is None else str(data)
    return export_checkpoint(found, form, path, own=model, data=folder, on_progress=on_progress)


def export_checkpoint(
    checkpoint: Checkpoint,
    form: Format,
    out: Path,
    *,
    own: nn.Module | str | None = None,
    data: str | None = None,
    on_progress: Progress | None = None,
) -> Export:
    """Write a checkpoint's network, and hold the file to computing the same.

    Args:
        checkpoint: What is exported.
        form: The format.
        out: The file; an older one stays if this fails.
        own: The user's network, or its name, where it is of one.
        data: Folder of tiles to compare on, by default that of the run.
        on_progress: Called with what is being done, how much is done, and of how much.

    Raises:
        CheckpointError: The network cannot be built.
        ConfigError: A package is missing.
        ExportError: It cannot be traced, or the file computes something else; nothing is left of it.
        S4AugTrainError: The file cannot be written.
    """
    form.check()
    segmenter = checkpoint.segmenter(torch.device("cpu"), "fp32", own)
    description = described(checkpoint, segmenter)
    done = (lambda number: None) if on_progress is None else lambda number: on_progress("exporting", number, STEPS)
    real, without_real = _real_or_why_not(checkpoint, data)
    with atomic_path(out) as temporary:
        form.write(segmenter.network, description, temporary)
        done(1)
        run = form.open(temporary, own)
        parities = []
        for number, (what, samples) in enumerate((("random", random_samples(segmenter)), ("real", real)), 2):
            parity = compare(what, segmenter, run, samples)
            parities += [] if parity is None else [_held(parity, form)]
            done(number)
        size = temporary.stat().st_size
    return Export(out, form.name, size, description.step, description.weights, tuple(parities), without_real)


def described(checkpoint: Checkpoint, segmenter: Segmenter) -> Description:
    """What an export tells of a checkpoint, whose segmenter this is."""
    network, config = segmenter.network, checkpoint.config
    return Description(
        classes=checkpoint.classes,
        bands=checkpoint.bands,
        dtype=checkpoint.dtype,
        normalization=checkpoint.normalization,
        model=config.model,
        stride=network.stride if isinstance(network, OwnNetwork) else 1,
        window=config.train.window,
        window_stride=config.train.stride,
        method=config.method,
        step=checkpoint.step,
        weights=weights_hash(network.state_dict()),
    )


def real_samples(checkpoint: Checkpoint, data: str | None = None) -> list[Sample]:
    """Some tiles of the run's data, validation tiles first, up to a window of each, most of odd sides.

    Args:
        checkpoint: Of the run.
        data: Folder of other tiles; its first ones are taken, whatever the run's split says.

    Raises:
        DataError: There are none, or of another kind.
    """
    config, split = checkpoint.config, checkpoint.split
    if data is None and not config.data.path:
        raise DataError("the run was made of datasets given in Python")
    if data is None:
        listing = list_tiles(config.data)
        files = {tile.id: tile.image for tile in listing.tiles}
        found = [files[tile] for tile in (*split.val, *split.labeled, *split.unlabeled) if tile in files][:REAL]
        if not found:
            raise DataError(f"{listing.root} holds none of the run's tiles")
    else:
        found = [tile.image for tile in _tiles_in(config.data, data)][:REAL]
    return [_sample(path, number, checkpoint) for number, path in enumerate(found)]


def _tiles_in(config: DataConfig, folder: str) -> Sequence[TileFile]:
    """The images of a folder, by the run's patterns where they find some; it need not hold masks."""
    try:
        return list_tiles(
            DataConfig(folder, image_pattern=config.image_pattern, mask_pattern=config.mask_pattern)
        ).tiles
    except DataError:
        return find_unlabeled(folder)


def _sample(path: Path, cut: int, checkpoint: Checkpoint) -> Sample:
    """A window of an image, without its last `cut` rows and columns."""
    info = read_info(path)
    if (info.bands, info.dtype) != (checkpoint.bands, checkpoint.dtype):
        raise DataError(
            f"{path} has {info.bands} bands of {info.dtype}, the run was trained on {checkpoint.bands} of "
            f"{checkpoint.dtype}"
        )
    height, width = (max(min(side, checkpoint.config.train.window) - cut, 1) for side in info.size)
    window = (0, 0, height, width)
    valid = read_valid(path, window)
    image = torch.from_numpy(read_image(path, window))[None]
    return Sample(image, None if valid is None else torch.from_numpy(valid)[None, None])


def _real_or_why_not(checkpoint: Checkpoint, data: str | None) -> tuple[list[Sample], str | None]:
    try:
        return real_samples(checkpoint, data), None
    except DataError as error:
        if data is not None:
            raise
        return [], str(error)


def _held(parity: Parity, form: Format) -> Parity:
    """Hold an export to what was trained."""
    if parity.largest > LIMIT:
        raise ExportError(
            f"the {form.name} file computes something else: probabilities differ by up to {parity.largest:.2g} (at "
            f"most {LIMIT:g} may be) and {parity.differing} of {parity.pixels} labels on {parity.what} images; no file "
            f"was left; try another --format, or another version of its packages"
        )
    return parity
