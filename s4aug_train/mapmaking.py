"""Prediction of rasters by what a user names: a checkpoint, files, and how they are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from .config import Config, MethodConfig
from .data.dataset import Progress
from .data.scene import Reading
from .engine import Checkpoint, choose_device
from .errors import ConfigError
from .exported import is_exported, read_exported
from .jobs import jobs_of
from .launch import Rank, here
from .prediction import Made, MapRequest, predict_maps
from .preparation import named
from .ranks import joined
from .run import find_checkpoint
from .segmenter import Segmenter
from .tta import Averaging
from .windows import Windows

# Settings that a prediction may be given; all else holds as the network was trained.
FREE = ("model.factory", "train.device", "train.precision")


def predict(
    inputs: str | Path | Sequence[str | Path],
    checkpoint: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    out: str | Path = "maps",
    bands: Sequence[int] | None = None,
    scale: float | tuple[float, float] | None = None,
    nodata: float | None = None,
    tta: str | None = None,
    window: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    confidence: bool = False,
    probabilities: bool = False,
    overwrite: bool = False,
    model: nn.Module | None = None,
    on_progress: Progress | None = None,
) -> list[Made]:
    """Predict whole rasters: for each a map of labels, a Cloud Optimized GeoTIFF on the grid of the raster.

    Under torchrun each process predicts its share of the rasters, and all know what became of each.

    Args:
        inputs: GeoTIFF, VRT, JPEG or PNG files, folders of them, or globs.
        checkpoint: Run folder, checkpoint, or a file of `export`: safetensors, or ONNX, which runs on the CPU unless
            `train.device` says otherwise.
        settings: `train.device`, `train.precision` or `model.factory`, where they differ from the run's.
        out: Folder of the maps; that of `scene.tif` is `scene.tif` in it.
        bands: Numbers of the bands to use, from 1, in the order in which the network was trained on them.
        scale: Factor, or (factor, offset), by which pixels become what the network was trained on.
        nodata: A value that means "not real" where all bands have it, besides what the file says.
        tta: `flips` or `affine:K`: views of each window that are predicted besides.
        window: Side of a window, px; by default that of the run's evaluation.
        overlap: Of windows, px, over which they fade into each other; by default a quarter of the window.
        batch: Windows per forward; by default 4 on a GPU and 1 on the CPU, where more take memory and no less time.
        confidence: Also write `*_confidence.tif`: the largest probability, and the entropy divided by log K.
        probabilities: Also write `*_probabilities.tif`, a band for each class.
        overwrite: Make maps again that are there.
        model: The network that the run trained, where it was one of the user's.
        on_progress: As in `fit`.

    Returns:
        What became of each raster: made, skipped because its map was there, or failed.

    Raises:
        CheckpointError: There is no such checkpoint.
        DataError: There is no raster, or two rasters would have one map.
        ConfigError: An option cannot be, or a setting has no say in it.
    """
    given = dict(settings or {})
    if without := [key for key in given if key not in FREE]:
        raise ConfigError(f"{without[0]} has no say in a prediction; leave it out. What may be set: {', '.join(FREE)}")
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    jobs = jobs_of(listed, Path(out))
    trained = _trained(Path(checkpoint), given, model, here())
    if batch is None:
        batch = 1 if trained.segmenter.device.type == "cpu" else 4
    request = MapRequest(
        windows=_smooth_windows(trained.window if window is None else window, overlap, batch),
        tta=Averaging.named(tta, trained.method) if tta else None,
        reading=Reading(tuple(bands) if bands else None, _pair(scale), nodata),
        confidence=confidence,
        probabilities=probabilities,
    )
    told = named(on_progress, "predicting windows")
    # One that ends with a failure would have torchrun end the others: all end together.
    with joined(trained.segmenter.device) as ranks:
        own = jobs[ranks.rank :: ranks.count]
        ranks.check_same({"the rasters": [str(job.source) for job in jobs]})
        made = list(predict_maps(trained.segmenter, own, request, overwrite=overwrite, on_progress=told))
        ranks.wait()
        known = {each.job: each for some in ranks.gathered(made) for each in some}
        return [known[job] for job in jobs]


class _Trained(NamedTuple):
    segmenter: Segmenter
    window: int  # px, of the run's evaluation
    method: MethodConfig


def _trained(path: Path, given: Mapping[str, Any], model: nn.Module | None, rank: Rank) -> _Trained:
    """What a run folder, a checkpoint or an exported file holds, on the device that is asked for."""
    own = model or given.get("model.factory")
    if is_exported(path):
        train = Config().updated(given).train
        # Of onnxruntime's builds only some run on a GPU.
        on_cpu = train.device == "auto" and path.suffix.lower() == ".onnx"
        device = choose_device("cpu" if on_cpu else train.device, rank)
        segmenter, description = read_exported(path, device, train.precision, own)
        return _Trained(segmenter, description.window, description.method)
    checkpoint = Checkpoint.read(find_checkpoint(path))
    config = checkpoint.config.updated(given)
    device = choose_device(config.train.device, rank)
    return _Trained(checkpoint.segmenter(device, config.train.precision, own), config.train.window, config.method)


def _smooth_windows(side: int, overlap: int | None, batch: int) -> Windows:
    """Windows that fade into each other.

    Raises:
        ConfigError: The overlap is no part of the window.
    """
    overlap = side // 4 if overlap is None else overlap
    if not 0 <= overlap < side:
        raise ConfigError(f"windows of {side} px cannot overlap by {overlap} px; use 0 to {side - 1}")
    return Windows(side, side - overlap, batch, smooth=True)


def _pair(scale: float | tuple[float, float] | None) -> tuple[float, float] | None:
    if scale is None:
        return None
    factor, offset = scale if isinstance(scale, Sequence) else (scale, 0.0)
    return float(factor), float(offset)
