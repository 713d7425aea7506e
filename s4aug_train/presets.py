"""Presets, what each method sets, and how settings are put together."""

from collections.abc import Mapping
from typing import Any

from .config import Config
from .errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    # Sec. 4.2: the defaults.
    "paper": {},
    # Algorithm 1 and Eq. 4 word by word: each batch on its own through the network, every pixel compared.
    "paper-literal": {"method.forward": "separate", "method.mask": False},
    # The paper's settings in the hardware's precision, with views that show what lies around the crop.
    "recommended": {"method.source": "tile", "train.precision": "auto"},
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
ABOUT = {
    "paper": "the paper's settings, for a GPU",
    "paper-literal": "Algorithm 1 word by word: separate forwards, no mask",
    "recommended": "paper, with bf16 on a GPU and views that show the tile around the crop",
    "quick": "a laptop CPU, minutes",
}

# What a method sets unless it is said otherwise; all else is common to all.
METHODS: dict[str, dict[str, Any]] = {
    # Tarvainen and Valpola 2017, with the affine views of S4Net: Eq. 3 with the average of theta.
    "mean-teacher": {"method.ema": 0.99},
    # Miyato et al. 2018: the Kullback-Leibler divergence, weight 1, no ramp.
    "vat": {"method.weight": 1.0, "method.ramp": 0.0, "method.loss": "kl", "method.classes": "sum"},
    # French et al. 2020: squared error summed over classes, weighted by how many of a teacher's pixels are confident.
    "cutmix": {
        "method.weight": 1.0,
        "method.ramp": 0.0,
        "method.classes": "sum",
        "method.ema": 0.99,
        "method.threshold": 0.97,
    },
    # Sohn et al. 2020: threshold 0.95, weight 1, no ramp, strong changes of light.
    "fixmatch": {"method.weight": 1.0, "method.ramp": 0.0, "method.jitter": 0.5, "method.blur": 0.5},
    # Hung et al. 2018: lambda_semi 0.1, threshold 0.2.
    "hung": {"method.weight": 0.1, "method.ramp": 0.0, "method.threshold": 0.2},
}

# What `--data demo` means unless it is said otherwise.
DEMO = {"model.weights": "none", "data.labeled": 20, "data.val": 24}


def preset(name: str) -> Config:
    """The config of a preset."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return Config().updated(PRESETS[name])


def configured(given: Mapping[str, Any], preset_name: str | None = None) -> Config:
    """The preset, then what the method and the demo set, then what was asked for.

    Args:
        given: `group.field` to value.
        preset_name: By default quick for the demo, else paper.

    Raises:
        ConfigError: As `Config.updated`, or there is no such preset.
    """
    demo = given.get("data.path") == "demo"
    config = preset(preset_name or ("quick" if demo else "paper"))
    name = given.get("method.name", config.method.name)
    method = METHODS.get(name, {}) if isinstance(name, str) else {}  # what is no name is refused as a setting
    return config.updated({**method, **(DEMO if demo else {}), **given})
