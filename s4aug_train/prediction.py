"""Maps of rasters: made once, whole, and the same whenever they are made."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s4aug import __version__

from .data.geomap import (
    MADE_BY,
    NODATA,
    RASTER,
    MapKind,
    MapWriter,
    is_map,
    read_pixel_counts,
    read_tags,
    written_map,
)
from .data.origins import parts_of
from .data.scene import Reading, Scene, identity, opened_scene
from .errors import DataError, S4AugTrainError, UnreadableError, memory_is_full
from .files import parse_json, remove_dead_remains
from .inference import Piece, predict_pieces
from .jobs import Job
from .segmenter import Segmenter
from .tta import Averaging
from .windows import Windows

STEPS = 250  # of a share from 0 to 1 in 8 bits, 255 being nodata


@dataclass(frozen=True)
class MapRequest:
    """What is made of a raster.

    Args:
        windows: How it is covered.
        tta: Views that each window is predicted in besides.
        reading: How pixels are taken.
        confidence: Also a map of the largest probability and of the entropy, divided by its largest value log K.
        probabilities: Also a map of the probability of each class.
    """

    windows: Windows
    tta: Averaging | None = None
    reading: Reading = field(default_factory=Reading)
    confidence: bool = False
    probabilities: bool = False


@dataclass(frozen=True)
class Made:
    """What became of a job.

    Args:
        job: The job.
        skipped: Its maps had been made before.
        failure: Why there is none, in one line; "" if there is one.
        pixels: Of the map of labels, by class; empty where there is none, or one that does not say it.
        placed: Whether the raster says where on earth it lies; not asked again of one that is skipped.
        system_lost: Whether its CRS is one that a GeoTIFF cannot tell, so that the map has none; not asked again, too.
        older: Maps of it that are there, were not asked for and do not go with those that were made.
    """

    job: Job
    skipped: bool = False
    failure: str = ""
    pixels: Mapping[str, int] = field(default_factory=dict)
    placed: bool = True
    system_lost: bool = False
    older: tuple[Path, ...] = ()


def predict_maps(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    request: MapRequest,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Made]:
    """Make the maps of some rasters, one after another; a raster that fails is told, and the next one follows.

    Maps that are there are not made again. If they are of another network or request, or older than their raster,
    that is a failure.

    Args:
        segmenter: The network, and what it takes.
        jobs: Rasters, and where their maps go.
        request: What is made of each.
        overwrite: Maps that are there are made again.
        on_progress: Called with windows done and all that there are to do: none of rasters that are skipped, and of
            those that fail what was done.
    """
    shares = [_window_count(segmenter, job, request, overwrite) for job in jobs]
    count = _Count(sum(shares), on_progress)
    for job, share in zip(jobs, shares, strict=True):
        count.begin(share)
        yield _tried(segmenter, job, request, overwrite, count.told)
        count.end()


class _Count:
    """Windows done, and all that there are to do.

    Args:
        total: Those of all rasters.
        on_progress: Called with both.
    """

    def __init__(self, total: int, on_progress: Callable[[int, int], None] | None) -> None:
        self.total, self.on_progress = total, on_progress
        self.done = self.before = self.share = 0

    def begin(self, share: int) -> None:
        """A raster of so many windows."""
        self.before, self.share = self.done, share

    def told(self, part: float) -> None:
        """So much of it is done, from 0 to 1."""
        self.done = self.before + int(part * self.share)
        self._tell()

    def end(self) -> None:
        """What is not done of it, for it failed, is no longer to be done."""
        undone = self.before + self.share - self.done
        if undone:
            self.total -= undone
            self._tell()

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


def _window_count(segmenter: Segmenter, job: Job, request: MapRequest, overwrite: bool) -> int:
    """How many windows are to be predicted of a raster; 0 for one that is known to fail, told when its turn comes."""
    try:
        if _finished(segmenter, job, request, overwrite):
            return 0
        with opened_scene(job.source, segmenter.bands, segmenter.dtype, request.reading) as scene:
            height, width = scene.size
    except (S4AugTrainError, OSError):
        return 0
    return len(request.windows.spans(height)) * len(request.windows.spans(width))


def _tried(segmenter: Segmenter, job: Job, request: MapRequest, overwrite: bool, told: Callable[[float], None]) -> Made:
    try:
        for path in job.maps:
            remove_dead_remains(path)
        if _finished(segmenter, job, request, overwrite):
            names = segmenter.classes.names
            pixels = zip(names, read_pixel_counts(job.out, len(names)), strict=False)
            return Made(job, skipped=True, pixels=dict(pixels))
        return _make(segmenter, job, request, told)
    except UnreadableError as error:
        return Made(job, failure=error.why)
    except S4AugTrainError as error:
        return Made(job, failure=str(error))
    except OSError as error:
        where = error.filename or job.source
        return Made(job, failure=f"{where}: {error.strerror or error}; check the path and its permissions")
    except (MemoryError, RuntimeError) as error:
        if not memory_is_full(error) and not isinstance(error, torch.OutOfMemoryError):
            raise
        return Made(job, failure=f"{job.source}: memory is full; use a smaller --window or --batch")


def _finished(segmenter: Segmenter, job: Job, request: MapRequest, overwrite: bool) -> bool:
    """Whether all that is asked for is there, and is not to be made again.

    Raises:
        DataError: Something else is there.
    """
    wanted = [job.out, *[job.confidence] * request.confidence, *[job.probabilities] * request.probabilities]
    there = [path for path in wanted if path.exists()]
    for path in there:
        if not is_map(path):
            raise DataError(f"{path} is there and is no map of s4aug-train predict; move it, or choose another folder")
    # A raster that is gone leaves its maps as they are.
    raster = identity(job.source) if there and not overwrite and job.source.exists() else None
    for path in there if not overwrite else ():
        _check_same(segmenter, job, request, path, raster)
    return there == wanted and not overwrite


def _check_same(segmenter: Segmenter, job: Job, request: MapRequest, path: Path, raster: str | None) -> None:
    cure = "remove it, or make it again with --overwrite"
    for file in [job.source, *parts_of(job.source)] if job.source.exists() else []:
        if file.stat().st_mtime > path.stat().st_mtime:
            raise DataError(f"{path} is older than its raster {file}; {cure}")
    tags = read_tags(path)
    if raster is not None and tags.get(RASTER, raster) != raster:
        raise DataError(f"{path} was made of another raster than {job.source}, or before that was changed; {cure}")
    try:
        old = parse_json(tags[MADE_BY])
    except ValueError:
        old = None
    new = json.loads(_made_by(segmenter, request))
    if isinstance(old, dict) and old.get("bands") != new["bands"]:
        # Those that a request names may be all that the raster has.
        with opened_scene(job.source, segmenter.bands, segmenter.dtype, request.reading) as scene:
            every = list(scene.every)
        old, new = ({**made, "bands": made.get("bands") or every} for made in (old, new))
    if others := [name for name in new if not isinstance(old, dict) or old.get(name) != new[name]]:
        raise DataError(f"{path} was made with other {', '.join(others)}; {cure}")


def _made_by(segmenter: Segmenter, request: MapRequest) -> str:
    """All that a map of labels depends on besides its raster."""
    reading = request.reading
    scale = None if reading.scale is None else [float(number) for number in reading.scale]
    parts = {
        "weights": segmenter.weights,
        "precision": str(segmenter.autocast or torch.float32).removeprefix("torch."),
        "windows": [request.windows.side, request.windows.stride, request.windows.smooth],
        "views": None if request.tta is None else asdict(request.tta),
        "bands": None if reading.bands is None else [int(band) for band in reading.bands],
        "scale": scale,
        "nodata": None if reading.nodata is None else float(reading.nodata),
    }
    return json.dumps(parts)


def _make(segmenter: Segmenter, job: Job, request: MapRequest, told: Callable[[float], None]) -> Made:
    """Predict a raster and write its maps.

    Raises:
        S4AugTrainError: It cannot be read, does not fit the network or holds nothing real; or a map cannot be written.
    """
    with (
        opened_scene(job.source, segmenter.bands, segmenter.dtype, request.reading) as scene,
        ExitStack() as stack,
        ThreadPoolExecutor(1) as worker,
    ):
        raster = identity(job.source)
        outputs = _outputs(segmenter, job, request, scene, raster)
        # Names are given in reverse: that of labels last.
        writers = [stack.enter_context(output) for output, _ in outputs]
        pending: Future[None] | None = None
        done, pixels = 0, scene.size[0] * scene.size[1]
        pieces = stack.enter_context(closing(predict_pieces(segmenter, scene, request.windows, tta=request.tta)))
        for piece in pieces:
            if not bool(piece.probabilities.isfinite().all()):
                raise DataError(f"the network gives NaN for {job.source}; are its pixels as in training? (--scale)")
            parts = [_hidden(part(piece), piece) for _, part in outputs]
            if pending is not None:
                pending.result()
            # While the next piece is predicted.
            pending = worker.submit(_write, writers, parts, piece.top, piece.left)
            done += parts[0][0].size
            del piece, parts  # while the next one is made, memory is short
            told(done / pixels)
        assert pending is not None
        pending.result()
        counts = writers[0].counts[0]  # which the file is held to when it is read back
        if counts[NODATA] == pixels:
            raise DataError(f"{job.source} holds no real pixel: all are nodata; leave it out")
        place = scene.place()
    by_class = dict(zip(segmenter.classes.names, counts.tolist(), strict=False))
    older = tuple(_older(segmenter, job, request, raster))
    # A system, and a transform or control points in it.
    return Made(job, pixels=by_class, placed={"crs"} < place.keys(), system_lost=writers[0].system_lost, older=older)


def _older(segmenter: Segmenter, job: Job, request: MapRequest, raster: str) -> Iterator[Path]:
    """Maps beside those that were made now, which do not go with them."""
    for path, asked in ((job.confidence, request.confidence), (job.probabilities, request.probabilities)):
        # Not Path.is_file, to which a name that is too long is an error.
        if not asked and os.path.isfile(path) and is_map(path):
            try:
                _check_same(segmenter, job, request, path, raster)
            except DataError:
                yield path


Output = tuple[AbstractContextManager[MapWriter], Callable[[Piece], Tensor]]


def _outputs(segmenter: Segmenter, job: Job, request: MapRequest, scene: Scene, raster: str) -> list[Output]:
    """The files to write, each with what is made of a piece for it, [bands, h, w] uint8."""
    names, tags = segmenter.classes.names, {"TIFFTAG_SOFTWARE": f"s4aug {__version__}"}
    tags |= {MADE_BY: _made_by(segmenter, request), RASTER: raster}
    tags |= {"CLASSES": json.dumps(dict(enumerate(names)))}
    tags |= {f"CLASS_{label}": name for label, name in enumerate(names)}
    labels = MapKind(["class"], segmenter.classes.colors, tags=tags)
    asked: list[tuple[Path, MapKind, Callable[[Piece], Tensor]]] = [(job.out, labels, _labels)]
    if request.confidence:
        kind = MapKind(["confidence: largest probability", "entropy / log K"], unit=1 / STEPS, tags=tags)
        asked.append((job.confidence, kind, _confidence))
    if request.probabilities:
        asked.append((job.probabilities, MapKind(names, unit=1 / STEPS, tags=tags), _probabilities))
    return [(written_map(path, scene.size, scene.place(), kind), part) for path, kind, part in asked]


def _labels(piece: Piece) -> Tensor:  # [1, h, w]
    return piece.labels()[None]


def _confidence(piece: Piece) -> Tensor:  # [2, h, w]
    return _shares(torch.stack([piece.probabilities.amax(0), piece.entropy()]))


def _probabilities(piece: Piece) -> Tensor:  # [K, h, w]
    return _shares(piece.probabilities)


def _shares(values: Tensor) -> Tensor:
    """Numbers from 0 to 1, in 8 bits."""
    return values.clamp(0, 1).mul_(STEPS).round_().to(torch.uint8)


def _hidden(values: Tensor, piece: Piece) -> np.ndarray:  # [bands, h, w]
    """Nodata where the raster holds nothing."""
    array: np.ndarray = values.cpu().numpy()
    if piece.valid is not None:
        array[:, ~piece.valid] = NODATA
    return array


def _write(writers: Sequence[MapWriter], parts: Sequence[np.ndarray], top: int, left: int) -> None:
    for writer, part in zip(writers, parts, strict=True):
        writer.write(part, top, left)
