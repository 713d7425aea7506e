"""The settings of a run: every field, its default and its reason; YAML and `key=value` input."""

import dataclasses
import difflib
import types
import typing
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from .errors import ConfigError
from .limits import check, shown

# What a run has for the name of a network that was given as an object.
GIVEN = "given in Python"


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
    unreadable: str = "error"  # a file or tile that cannot be read, at the start or later: error, or skip (left out)


@dataclass(frozen=True)
class ModelConfig:
    """Table 1 and its encoder, or a network of the user's."""

    factory: str | None = None  # package.module:function(classes, bands), instead of Table 1; --model
    encoder: str = "resnet50"
    weights: str = "imagenet"  # imagenet, none, or the path of a state dict


@dataclass(frozen=True)
class MethodConfig:
    """What is learned from unlabelled tiles; `presets.METHODS` holds what differs by method."""

    name: str = "s4net"  # or package.module:function(setup), a method of the user's
    weight: float = 2.0  # lambda: largest weight of the unlabelled loss, Sec. 4.2
    ramp: float = 0.8  # share of the steps over which lambda grows as exp(-5 (1 - x)^2): 80k of 100k
    loss: str = "mse"  # mse or kl
    activation: str = "softmax"  # softmax, or none to compare logits
    classes: str = "mean"  # mean or sum over classes; lambda_sum = lambda_mean / C
    detach: int = 0  # 1 or 2: that view is a target without gradient; 0: gradient through both, as Algorithm 1
    mask: bool = True  # compare only pixels that are real in both views
    ema: float = 0.0  # decay of theta-bar, Eq. 3; 0: theta-bar = theta
    evaluate: str = "student"  # whose weights are evaluated and predict: student, or teacher (theta-bar)
    views: str = "two"  # two perturbed views, or one, compared with the crop itself
    draw: str = "sample"  # a perturbation for each sample, or one for the whole batch
    forward: str = "joint"  # one forward for labelled images and both views, or separate ones (BatchNorm differs)
    source: str = "crop"  # what a view shows beyond the crop: nothing (crop), or what lies there in the tile
    degrees: float = 15.0  # rotation, Sec. 3.2
    translate: float = 0.2  # shift as a fraction of the side
    scale_min: float = 0.75
    scale_max: float = 1.25
    isotropic: bool = True  # one scale for both axes
    shear: float = 0.0  # degrees
    jitter: float = 0.0  # strength of random brightness, contrast and (8-bit RGB) saturation and hue on the views
    blur: float = 0.0  # probability of a random Gaussian blur of a view
    noise: float = 0.0  # standard deviation of Gaussian noise on a view, as a share of the pixels' range
    threshold: float = 0.95  # least confidence of a pseudo-label: fixmatch, cutmix, hung
    vat_radius: float = 0.1  # root mean square of the adversarial perturbation, in standard deviations of a band
    vat_probe: float = 0.01  # the same of the probe that looks for it
    vat_iterations: int = 1  # power iterations
    adversarial: float = 0.01  # hung: weight of the adversarial loss of labelled images
    adversarial_unlabeled: float = 0.001  # of unlabelled ones
    semi_start: float = 0.05  # share of the steps before unlabelled images count: 5k of 100k
    discriminator_lr: float = 1e-4  # Adam (0.9, 0.99)


@dataclass(frozen=True)
class TrainConfig:
    """Sec. 4.2: the optimisation."""

    steps: int = 100_000
    batch_labeled: int = 4
    batch_unlabeled: int = 2
    accumulate: int = 1  # passes of a step, each of these batches, where the memory is too small for one
    crop: int = 512  # px
    flips: bool = True  # random left-right and top-bottom flips
    lr: float = 0.01
    schedule: str = "cosine"  # to 0 over all steps, per step; or poly (power 0.9), or constant
    warmup: int = 0  # steps over which the rate grows from 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    class_weights: str = "none"  # of the cross entropy: none, balanced (inverse frequency), or numbers: 1,2,0.5
    dice: float = 0.0  # weight of a Dice loss beside the cross entropy
    seed: int = 0
    skip_limit: int = 20  # steps in a row whose loss or gradient is not finite, and which are skipped, until it ends
    device: str = "auto"  # auto, cpu, cuda, cuda:1, ...
    precision: str = "fp32"  # fp32, bf16, fp16, or auto: bf16 where the GPU has it
    compile: bool = False  # the network through torch.compile
    graph: bool = False  # the whole step as one CUDA graph
    sync_batchnorm: bool = False  # BatchNorm over the batches of all processes
    pool: str = "auto"  # tiles held on the device, read from the map of the cache, or auto: by the memory there is
    workers: int = 2  # threads (processes for a dataset of the user's) that read ahead; 0: in the training loop
    log_every: int = 20  # steps between lines of metrics.jsonl
    tensorboard: bool = False  # the same, and a picture after each evaluation, for TensorBoard; an extra
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
        check(self.flat())

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, group by group."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """The same as `group.field` to value."""
        return {f"{group}.{name}": value for group, part in self.to_dict().items() for name, value in part.items()}

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
    if not isinstance(content, dict) or not all(_is_group(name, values) for name, values in content.items()):
        raise ConfigError(f"{path} must hold groups (data, model, method, train) of settings")
    return {f"{group}.{name}": value for group, values in content.items() for name, value in values.items()}


def _is_group(name: Any, values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(each, str) for each in (name, *values))


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that comes twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        # What is no key at all is told there.
        hashable = Counter(key for key in keys if isinstance(key, Hashable))
        for key, count in hashable.items():
            if count > 1:
                raise ConstructorError(None, None, f"the key {shown(key)} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_assignment(text: str) -> tuple[str, str]:
    """`group.field=value` in two."""
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise ConfigError(f"--set takes group.key=value, for example train.lr=0.02, got {text!r}")
    return key.strip(), value.strip()


@cache
def known_keys() -> Mapping[str, Any]:
    """Every `group.field` with its type."""
    return types.MappingProxyType(
        {
            f"{group.name}.{name}": kind
            for group in fields(Config)
            for name, kind in typing.get_type_hints(group.type).items()
        }
    )


def _typed(key: str, value: Any) -> Any:
    kinds = known_keys()
    if key not in kinds:
        close = difflib.get_close_matches(key, kinds, 1, 0.5)
        hint = f"; did you mean {close[0]}?" if close else f"; groups are {', '.join(Config().to_dict())}"
        raise ConfigError(f"no setting {shown(key)}{hint}")
    kind = kinds[key]
    optional = isinstance(kind, types.UnionType)
    if optional and value in (None, "none", "null", ""):
        return None
    kind = typing.get_args(kind)[0] if optional else kind
    try:
        return _converted(value, kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{key} must be {kind.__name__}, got {shown(value)}") from error


def _converted(value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise ValueError
        return value.lower() in ("true", "yes", "1")
    if kind is str:
        # No path and no name holds a NUL.
        if not isinstance(value, str) or "\0" in value:
            raise TypeError
        return value
    if isinstance(value, bool) != (kind is bool) or (kind is int and isinstance(value, float)):
        raise TypeError
    number = kind(value.replace("_", "") if kind is int and isinstance(value, str) else value)
    if kind is int and number.bit_length() > 63:
        raise OverflowError
    return number
