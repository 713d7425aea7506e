"""The settings of a run: every field, its default and its reason; presets; YAML and `key=value` input."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from .errors import ConfigError


@dataclass(frozen=True)
class DataConfig:
    """Where the tiles come from and how they are divided."""

    path: str = ""  # folder with images and masks, or "demo"
    classes: str | None = None  # class table (CSV: name,r,g,b or name,value); class_dict.csv of the folder by default
    image_pattern: str | None = None  # for example "images/{id}.tif"; with mask_pattern, for unusual names
    mask_pattern: str | None = None
    split: str | None = None  # split manifest (JSON) instead of drawing one
    unlabeled: str | None = None  # folder or glob of further images without masks
    labeled: int = 100  # labelled tiles; the other training tiles are used without their masks
    val: int = 0  # validation tiles, where tiles.csv names none; 0: a quarter, at most 200 (200 of DeepGlobe's 803)
    split_seed: int = 0  # of the validation set; the labelled set is drawn by train.seed
    unpaired: bool = True  # images of the folder without a mask are unlabelled tiles; the paper used none
    include_labeled: bool = False  # labelled images are in the unlabelled pool too
    mismatch: str = "error"  # image and mask of different size: error, crop (to what both have) or skip


@dataclass(frozen=True)
class ModelConfig:
    """Table 1 and its encoder."""

    encoder: str = "resnet50"
    weights: str = "imagenet"  # imagenet, none, or the path of a state dict


@dataclass(frozen=True)
class MethodConfig:
    """What is learned from unlabelled tiles."""

    name: str = "s4net"
    weight: float = 2.0  # lambda: largest weight of the consistency loss, Sec. 4.2
    ramp: float = 0.8  # share of the steps over which lambda grows as exp(-5 (1 - x)^2): 80k of 100k
    loss: str = "mse"  # mse or kl
    activation: str = "softmax"  # softmax, or none to compare logits
    classes: str = "mean"  # mean or sum over classes; lambda_sum = lambda_mean / C
    detach: int = 0  # 1 or 2: that view is a target without gradient; 0: gradient through both, as Algorithm 1
    mask: bool = True  # compare only pixels that are real in both views
    forward: str = "joint"  # one forward for labelled images and both views, or separate ones (BatchNorm differs)
    degrees: float = 15.0  # rotation, Sec. 3.2
    translate: float = 0.2  # shift as a fraction of the side
    scale_min: float = 0.75
    scale_max: float = 1.25
    shear: float = 0.0  # degrees


@dataclass(frozen=True)
class TrainConfig:
    """Sec. 4.2: the optimisation."""

    steps: int = 100_000
    batch_labeled: int = 4
    batch_unlabeled: int = 2
    crop: int = 512  # px
    lr: float = 0.01  # cosine to 0 over all steps, per step
    momentum: float = 0.9
    weight_decay: float = 1e-4
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
    precision: str = "fp32"  # fp32, bf16 or fp16
    workers: int = 2  # threads that read crops ahead; 0 reads them in the training loop
    log_every: int = 20  # steps between lines of metrics.jsonl
    checkpoint_every: int = 1000
    evaluate_every: int = 0  # steps; 0: five times in a run
    window: int = 512  # px, sliding window of evaluation
    stride: int = 341  # px


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _check(self)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, group by group."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """As written to config.yaml."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def updated(self, settings: Mapping[str, Any]) -> "Config":
        """A config with some fields changed; keys are `group.field`, values typed or text.

        Raises:
            ConfigError: An unknown key (the nearest one is named) or a value of the wrong type.
        """
        groups: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            group, _, name = key.partition(".")
            groups.setdefault(group, {})[name] = _typed(key, value)
        changed = {group: replace(getattr(self, group), **values) for group, values in groups.items()}
        return replace(self, **changed)


PRESETS: dict[str, dict[str, Any]] = {
    # Sec. 4.2: the defaults.
    "paper": {},
    # A laptop CPU, minutes.
    "quick": {
        "model.encoder": "resnet18",
        "train.steps": 200,
        "train.crop": 128,
        "train.checkpoint_every": 100,
        "train.log_every": 10,
        "train.evaluate_every": 100,
        "train.window": 256,
        "train.stride": 171,
    },
}
CHOICES = {
    "data.mismatch": ("error", "crop", "skip"),
    "model.encoder": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "method.name": ("supervised", "sup+affine", "full", "s4net"),
    "method.loss": ("mse", "kl"),
    "method.activation": ("softmax", "none"),
    "method.classes": ("mean", "sum"),
    "method.forward": ("joint", "separate"),
    "train.precision": ("fp32", "bf16", "fp16"),
}
AT_LEAST = {
    "data.labeled": 1,
    "data.val": 0,
    "method.weight": 0,
    "method.degrees": 0,
    "method.shear": 0,
    "method.scale_min": 0.05,
    "train.steps": 1,
    "train.batch_labeled": 1,
    "train.batch_unlabeled": 1,
    "train.crop": 64,  # at 32 px the deepest map is one pixel, too little for BatchNorm
    "train.lr": 0,
    "train.weight_decay": 0,
    "train.workers": 0,
    "train.log_every": 1,
    "train.checkpoint_every": 1,
    "train.evaluate_every": 0,
    "train.window": 32,
    "train.stride": 1,
}


AT_MOST = {
    "train.batch_labeled": 4096,
    "train.batch_unlabeled": 4096,
    "train.crop": 16384,
    "train.window": 16384,
    "train.workers": 256,
}


def preset(name: str) -> Config:
    """The config of a preset."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return Config().updated(PRESETS[name])


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, as `group.field` keys.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or is not made of groups.
    """
    try:
        content = yaml.load(path.read_text(), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"cannot read the settings in {path}: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(group, dict) for group in content.values()):
        raise ConfigError(f"{path} must hold groups (data, model, method, train) of settings")
    return {f"{group}.{name}": value for group, values in content.items() for name, value in values.items()}


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that comes twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConstructorError(None, None, f"the key {key!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_assignment(text: str) -> tuple[str, str]:
    """`group.field=value` in two."""
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise ConfigError(f"--set takes group.key=value, for example train.lr=0.02, got {text!r}")
    return key.strip(), value.strip()


def known_keys() -> dict[str, Any]:
    """Every `group.field` with its type."""
    return {
        f"{group.name}.{name}": kind
        for group in fields(Config)
        for name, kind in typing.get_type_hints(group.type).items()
    }


def _typed(key: str, value: Any) -> Any:
    kinds = known_keys()
    if key not in kinds:
        close = difflib.get_close_matches(key, kinds, 1, 0.5)
        hint = f"; did you mean {close[0]}?" if close else f"; groups are {', '.join(Config().to_dict())}"
        raise ConfigError(f"no setting {key!r}{hint}")
    kind = kinds[key]
    optional = isinstance(kind, types.UnionType)
    if optional and value in (None, "none", "null", ""):
        return None
    kind = typing.get_args(kind)[0] if optional else kind
    try:
        return _converted(value, kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{key} must be {kind.__name__}, got {value!r}") from error


def _converted(value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError(value)
        return value.lower() in ("true", "yes", "1")
    if kind is str:
        if not isinstance(value, str):
            raise TypeError(value)
        return value
    if isinstance(value, bool) != (kind is bool) or (kind is int and isinstance(value, float)):
        raise TypeError(value)
    if kind is int and isinstance(value, str):
        return int(value.replace("_", ""))
    return kind(value)


def _check(config: Config) -> None:
    values = {f"{group}.{name}": v for group, part in config.to_dict().items() for name, v in part.items()}
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(choices)}, got {values[key]!r}")
    for key, least in AT_LEAST.items():
        if not values[key] >= least:
            raise ConfigError(f"{key} must be at least {least}, got {values[key]}")
    for key, most in AT_MOST.items():
        if values[key] > most:
            raise ConfigError(f"{key} must be at most {most}, got {values[key]}")
    for key in ("method.ramp", "method.translate", "train.momentum"):
        if not 0 <= values[key] <= 1:
            raise ConfigError(f"{key} must be between 0 and 1, got {values[key]}")
    if config.method.detach not in (0, 1, 2):
        raise ConfigError(f"method.detach must be 0, 1 or 2, got {config.method.detach}")
    if not config.method.scale_max >= config.method.scale_min:
        raise ConfigError("method.scale_max must not be below method.scale_min")
    if config.train.stride > config.train.window:
        raise ConfigError("train.stride must not exceed train.window, or pixels would be left out")
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} must be finite, got {value}")
