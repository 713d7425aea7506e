"""What an exported network tells of itself: all that using it takes, as text within its file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from s4aug import __version__

from .config import Config, MethodConfig, ModelConfig
from .data.normalization import Normalization
from .data.palette import ClassEntry, ClassTable
from .errors import CheckpointError, ConfigError, DamagedError
from .files import parse_json
from .model import ENCODERS, STRIDE, STRIDES

VERSION = "1"  # of the metadata


@dataclass(frozen=True)
class Description:
    """A trained network without its weights.

    Args:
        classes: The K classes, in the order of the output.
        bands: Of the images.
        dtype: Of the images as stored: "uint8", "uint16" or "float32".
        normalization: As in training.
        model: The encoder, or the name of the user's network.
        stride: Pixels from logit to logit.
        window: Side of the windows of evaluation, px.
        window_stride: From window to window, px.
        method: How it was trained; test-time views are drawn by it.
        step: Steps done.
        weights: SHA-256 (hex) of the weights, as `weights_hash` gives it.

    Raises:
        ConfigError: Two fields contradict each other, or one is out of bounds.
    """

    classes: ClassTable
    bands: int
    dtype: str
    normalization: Normalization
    model: ModelConfig
    stride: int
    window: int
    window_stride: int
    method: MethodConfig
    step: int
    weights: str

    def __post_init__(self) -> None:
        numbers = (*self.normalization.mean, *self.normalization.std)
        if len(self.normalization.mean) != self.bands or len(self.normalization.std) != self.bands:
            raise ConfigError(f"{self.bands} bands, but {len(self.normalization.mean)} means")
        if not all(math.isfinite(number) for number in numbers) or not all(self.normalization.std):
            raise ConfigError("a mean or standard deviation is not finite, or 0")
        if self.dtype not in ("uint8", "uint16", "float32") or self.stride not in STRIDES:
            raise ConfigError(f"pixels of {self.dtype}, stride {self.stride}")
        if self.model.encoder not in ENCODERS:
            raise ConfigError(f"no encoder {self.model.encoder!r}")
        if not 1 <= self.window_stride <= self.window:
            raise ConfigError(f"windows of {self.window} px every {self.window_stride} px")

    def metadata(self) -> dict[str, str]:
        """As embedded in a file: JSON, but for the values that are text.

        `class_names` and `model_type` are in the form that QGIS's plugin Deepness reads.
        """
        model = {"encoder": self.model.encoder, "factory": self.model.factory}
        values = {
            "classes": [[e.name, e.color, e.value, e.ignored] for e in self.classes.entries],
            "class_names": dict(enumerate(self.classes.names)),
            "colors": self.classes.colors,
            "bands": self.bands,
            "mean": self.normalization.mean,
            "std": self.normalization.std,
            "model": model,
            "model_type": "Segmentor",
            "stride": self.stride,
            "multiple": STRIDE,
            "window": self.window,
            "window_stride": self.window_stride,
            "method": asdict(self.method),
            "step": self.step,
        }
        text = {
            "s4aug": VERSION,
            "s4aug_version": __version__,
            "dtype": self.dtype,
            "normalization": self.normalization.source,
            "band_order": "red, green, blue" if self.normalization.source == "imagenet" else "as in the training data",
            "weights_sha256": self.weights,
        }
        return {**text, **{key: json.dumps(value) for key, value in values.items()}}

    @classmethod
    def of(cls, metadata: Mapping[str, str], path: Path) -> "Description":
        """What a file's metadata say.

        Raises:
            CheckpointError: They are not ours, or of another version, or contradict each other.
        """
        version = metadata.get("s4aug")
        if version is None:
            raise CheckpointError(
                f"{path} does not say which classes and normalisation it has, so it was not made by s4aug-train "
                f"export; make it so from its run"
            )
        if version != VERSION:
            raise CheckpointError(
                f"{path} was exported by s4aug {metadata.get('s4aug_version')} (metadata of version {version}), this "
                f"is {__version__} and reads version {VERSION}; install that, or export the run anew"
            )
        try:
            return cls._of(metadata)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"damaged metadata: {type(error).__name__}: {error}"
            raise DamagedError(reason, f"{path} has {reason}; export the run anew") from error

    @classmethod
    def _of(cls, metadata: Mapping[str, str]) -> "Description":
        def value(key: str) -> Any:
            return parse_json(metadata[key])

        entries = [(name, color and tuple(color), number, ignored) for name, color, number, ignored in value("classes")]
        method = Config().updated({f"method.{name}": setting for name, setting in value("method").items()}).method
        return cls(
            classes=ClassTable(tuple(ClassEntry(*entry) for entry in entries)),
            bands=value("bands"),
            dtype=metadata["dtype"],
            normalization=Normalization(tuple(value("mean")), tuple(value("std")), metadata["normalization"]),
            model=replace(ModelConfig(weights="none"), **value("model")),
            stride=value("stride"),
            window=value("window"),
            window_stride=value("window_stride"),
            method=method,
            step=value("step"),
            weights=metadata["weights_sha256"],
        )
