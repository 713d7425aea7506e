"""What an evaluation found, tile by tile."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .boundary import LABELS
from .errors import DataError
from .metrics import Confusion
from .records import EvaluationRecord
from .resampling import Bounds, bounds, iou_of, miou_of, tile_sums, times_drawn

CONFIDENCE_BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks, ICML 2017
VERSION = 1


@dataclass(frozen=True, eq=False)
class TileScore:
    """Counts of one tile's labelled pixels.

    Args:
        id: Of the tile.
        confusion: [K, K] int64, rows truth, columns prediction.
        near: [D, 2] int64: pixels predicted right, and all, by the bin of their distance to the nearest boundary of
            the truth.
        calibration: [B, 3] float64: pixels, the sum of their confidences, and those predicted right, by the bin of
            the confidence (the largest probability).
    """

    id: str
    confusion: np.ndarray  # [K, K] int64
    near: np.ndarray  # [D, 2] int64
    calibration: np.ndarray  # [B, 3] float64


@dataclass(frozen=True)
class NearBoundary:
    """Pixels at some distance from the nearest boundary of the truth.

    Args:
        label: The distance, px: "1", "2", "3-4", ...
        accuracy: Share of them that is predicted right; None where there are none.
        share: Of all labelled pixels.
    """

    label: str
    accuracy: float | None
    share: float


@dataclass(frozen=True)
class CalibrationBin:
    """Pixels of some confidence.

    Args:
        low: Their confidence is above it.
        high: And at most this.
        confidence: Mean; None where there are none.
        accuracy: Share of them that is predicted right.
        share: Of all labelled pixels.
    """

    low: float
    high: float
    confidence: float | None
    accuracy: float | None
    share: float


@dataclass(frozen=True)
class Intervals:
    """Between what chance would have an IoU lie, had other tiles of the kind been evaluated.

    Args:
        level: For example 0.95.
        miou: (low, high); None for fewer than two tiles, or a truth without classes.
        iou: The same by class; None as well for a class that the truth does not hold.
    """

    level: float
    miou: Bounds | None
    iou: dict[str, Bounds | None]


@dataclass(frozen=True, eq=False)
class Assessment:
    """An evaluation with all that intervals, tests and diagrams are made of.

    Args:
        step: Steps the network was trained for.
        classes: Names.
        tiles: One score for each tile that was read.

    Raises:
        DataError: A score is not of these classes and bins.
    """

    step: int
    classes: tuple[str, ...]
    tiles: tuple[TileScore, ...]

    def __post_init__(self) -> None:
        count = len(self.classes)
        expected = {"confusion": (count, count), "near": (len(LABELS), 2), "calibration": (CONFIDENCE_BINS, 3)}
        for tile in self.tiles:
            for name, shape in expected.items():
                found = getattr(tile, name).shape
                if found != shape:
                    raise DataError(f"the {name} of tile {tile.id} is {list(found)}, not {list(shape)}; evaluate again")

    @cached_property
    def sums(self) -> np.ndarray:  # [N, 3, K]
        """As `tile_sums` gives them."""
        count = len(self.classes)
        return tile_sums(np.array([tile.confusion for tile in self.tiles]).reshape(-1, count, count))

    def confusion(self) -> Confusion:
        """Of all tiles."""
        count = len(self.classes)
        return Confusion(torch.from_numpy(sum((tile.confusion for tile in self.tiles), np.zeros((count, count), int))))

    @property
    def miou(self) -> float | None:
        """Mean over the classes that the truth holds; None where it holds none."""
        return self.confusion().miou()

    def iou(self) -> dict[str, float | None]:
        """By class; None for a class that the truth does not hold."""
        return dict(zip(self.classes, self.confusion().iou(), strict=True))

    def record(self) -> EvaluationRecord:
        """The same as training tells it."""
        counts = self.confusion().counts.tolist()
        return EvaluationRecord(self.step, self.miou, self.iou(), counts, list(self.classes), len(self.tiles))

    def boundary(self) -> list[NearBoundary]:
        """How accurate predictions are, by the distance to the nearest boundary of the truth."""
        near = sum((tile.near for tile in self.tiles), np.zeros((len(LABELS), 2), int))
        whole = max(int(near[:, 1].sum()), 1)
        return [
            NearBoundary(label, right / count if count else None, count / whole)
            for label, (right, count) in zip(LABELS, near.tolist(), strict=True)
        ]

    def calibration(self) -> list[CalibrationBin]:
        """How accurate predictions of each confidence are: the reliability diagram."""
        table = sum((tile.calibration for tile in self.tiles), np.zeros((CONFIDENCE_BINS, 3)))
        whole = max(table[:, 0].sum(), 1)
        return [
            CalibrationBin(
                number / CONFIDENCE_BINS,
                (number + 1) / CONFIDENCE_BINS,
                confidence / count if count else None,
                right / count if count else None,
                count / whole,
            )
            for number, (count, confidence, right) in enumerate(table.tolist())
        ]

    def ece(self) -> float | None:
        """The expected calibration error: confidence minus accuracy, absolute, mean over pixels; None without any."""
        gaps = [
            b.share * abs(b.accuracy - b.confidence)
            for b in self.calibration()
            if b.accuracy is not None and b.confidence is not None
        ]
        return sum(gaps) if gaps else None

    def intervals(self, samples: int = 1000, seed: int = 0, level: float = 0.95) -> Intervals:
        """Percentile bootstrap over tiles: as many tiles are drawn with replacement, their counts added up.

        A resample's mIoU is the mean over the classes that its own truth holds, as that of a dataset is; a class's
        interval is made of the resamples that hold it. Tiles are taken for independent. With few of them, or few
        that hold a class, intervals are too narrow.

        Args:
            samples: Resamples.
            seed: Of the draws.
            level: Share of the resamples between the bounds.
        """
        if len(self.tiles) < 2:
            return Intervals(level, None, dict.fromkeys(self.classes))
        sums = np.tensordot(times_drawn(len(self.tiles), samples, seed), self.sums, 1)  # [S, 3, K]
        by_class = [bounds(values, level) for values in iou_of(sums).T]
        return Intervals(level, bounds(miou_of(sums), level), dict(zip(self.classes, by_class, strict=True)))

    def summary(self, intervals: Intervals) -> dict[str, Any]:
        """For programs, as `evaluate --json` prints it."""
        return {
            **self.record().to_json(),
            "intervals": asdict(intervals),
            "boundary": [asdict(part) for part in self.boundary()],
            "calibration": [asdict(part) for part in self.calibration()],
            "ece": self.ece(),
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, as `from_json` takes it."""
        tiles = [{name: np.asarray(value).tolist() for name, value in vars(tile).items()} for tile in self.tiles]
        return {"version": VERSION, "step": self.step, "classes": list(self.classes), "tiles": tiles}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Assessment":
        """What `to_json` gave.

        Raises:
            DataError: It is something else.
        """
        try:
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}")
            tiles = tuple(
                TileScore(
                    str(tile["id"]),
                    np.array(tile["confusion"], np.int64),
                    np.array(tile["near"], np.int64),
                    np.array(tile["calibration"], np.float64),
                )
                for tile in content["tiles"]
            )
            return cls(int(content["step"]), tuple(map(str, content["classes"])), tiles)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is no assessment of s4aug-train, or of another version: {error!r}") from error
