"""What settings may be: choices, bounds, and what goes together."""

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError

CHOICES = {
    "data.mismatch": ("error", "crop", "skip"),
    "data.unreadable": ("error", "skip"),
    "model.encoder": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "method.name": (
        "supervised",
        "sup+affine",
        "full",
        "s4net",
        "mean-teacher",
        "vat",
        "vat+affine",
        "cutmix",
        "fixmatch",
        "hung",
    ),
    "method.loss": ("mse", "kl"),
    "method.activation": ("softmax", "none"),
    "method.classes": ("mean", "sum"),
    "method.evaluate": ("student", "teacher"),
    "method.views": ("two", "one"),
    "method.draw": ("sample", "batch"),
    "method.forward": ("joint", "separate"),
    "method.source": ("crop", "tile"),
    "train.schedule": ("cosine", "poly", "constant"),
    "train.precision": ("fp32", "bf16", "fp16", "auto"),
    "train.pool": ("auto", "device", "map"),
}
# Formats of export, and how their files end.
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}
AT_LEAST = {
    "data.labeled": 1,
    "data.val": 0,
    "method.weight": 0,
    "method.degrees": 0,
    "method.shear": 0,
    "method.scale_min": 0.05,
    "method.jitter": 0,
    "method.noise": 0,
    "method.vat_radius": 0,
    "method.vat_iterations": 1,
    "method.adversarial": 0,
    "method.adversarial_unlabeled": 0,
    "method.discriminator_lr": 0,
    "train.steps": 1,
    "train.batch_labeled": 1,
    "train.batch_unlabeled": 1,
    "train.accumulate": 1,
    "train.skip_limit": 1,
    "train.crop": 64,  # at 32 px the deepest map is one pixel, too little for BatchNorm
    "train.lr": 0,
    "train.warmup": 0,
    "train.weight_decay": 0,
    "train.dice": 0,
    "train.workers": 0,
    "train.log_every": 1,
    "train.checkpoint_every": 1,
    "train.evaluate_every": 0,
    "train.window": 32,
    "train.stride": 1,
}
AT_MOST = {
    "method.jitter": 1,
    "method.shear": 89,
    "method.vat_iterations": 100,
    "train.batch_labeled": 4096,
    "train.batch_unlabeled": 4096,
    "train.accumulate": 4096,
    "train.crop": 16384,
    "train.window": 16384,
    "train.workers": 256,
}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
SHARES = (
    "method.ramp",
    "method.ema",
    "method.translate",
    "method.blur",
    "method.threshold",
    "method.semi_start",
    "train.momentum",
)


def check_export(format: str, out: Path) -> None:
    """Hold a file of export to a format.

    Raises:
        ConfigError: There is no such format, or the file's name ends otherwise.
    """
    if format not in SUFFIXES:
        raise ConfigError(f"--format must be one of {', '.join(SUFFIXES)}, got {format!r}")
    if out.suffix.lower() != SUFFIXES[format]:
        raise ConfigError(f"--out {out} must end in {SUFFIXES[format]} for the format {format}")


def shown(value: object) -> str:
    """A value in a message, however large it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return f"a {type(value).__name__} of thousands of digits"


def check(values: Mapping[str, Any]) -> None:
    """Hold settings (`group.field` to value) to what they may be.

    Raises:
        ConfigError: One is out of bounds, or two contradict each other.
    """
    for key, choices in CHOICES.items():
        if values[key] not in choices and not (key == "method.name" and ":" in values[key]):
            raise ConfigError(f"{key} must be one of {', '.join(choices)}, got {shown(values[key])}")
    for key, least in AT_LEAST.items():
        if not values[key] >= least:
            raise ConfigError(f"{key} must be at least {least}, got {values[key]}")
    for key, most in AT_MOST.items():
        if values[key] > most:
            raise ConfigError(f"{key} must be at most {most}, got {values[key]}")
    for key in SHARES:
        if not 0 <= values[key] <= 1:
            raise ConfigError(f"{key} must be between 0 and 1, got {values[key]}")
    if values["method.detach"] not in (0, 1, 2):
        raise ConfigError(f"method.detach must be 0, 1 or 2, got {values['method.detach']}")
    if not values["method.vat_probe"] > 0:
        raise ConfigError(f"method.vat_probe must be above 0, got {values['method.vat_probe']}")
    _check_together(values)
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} must be finite, got {value}")


def _check_together(values: Mapping[str, Any]) -> None:
    if not values["method.scale_max"] >= values["method.scale_min"]:
        raise ConfigError("method.scale_max must not be below method.scale_min")
    if values["train.stride"] > values["train.window"]:
        raise ConfigError("train.stride must not exceed train.window, or pixels would be left out")
    if values["method.ema"] == 1:
        raise ConfigError("method.ema must be below 1, or the teacher would never learn")
    if values["method.evaluate"] == "teacher" and values["method.ema"] == 0:
        raise ConfigError("method.evaluate=teacher needs a teacher: set method.ema, for example to 0.99")
    if values["model.factory"] and values["model.weights"] not in ("imagenet", "none"):
        raise ConfigError(
            "model.weights is for the encoder of Table 1: load the weights of your own network in its function"
        )
    if values["method.name"] == "mean-teacher" and values["method.ema"] == 0:
        raise ConfigError("mean-teacher needs method.ema above 0: with 0 it is s4net")
    if values["train.graph"] and values["train.precision"] == "fp16":
        raise ConfigError("train.graph does not go with fp16, whose scaling asks the host: use --precision bf16")
    if values["train.graph"] and values["train.accumulate"] > 1:
        raise ConfigError("train.graph records steps of one pass: leave out train.accumulate")
    if values["train.nesterov"] and values["train.momentum"] == 0:
        raise ConfigError("train.nesterov needs train.momentum above 0")
    _check_class_weights(values["train.class_weights"])


def _check_class_weights(text: str) -> None:
    if text in ("none", "balanced"):
        return
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [-1.0]
    if not all(math.isfinite(number) and number >= 0 for number in numbers) or not any(numbers):
        raise ConfigError(f"train.class_weights must be none, balanced or numbers such as 1,2,0.5, got {shown(text)}")
