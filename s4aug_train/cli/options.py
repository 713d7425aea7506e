"""Options that several commands share, and how they become settings."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..config import GIVEN, Config, DataConfig, parse_assignment
from ..data.folder import check_folder
from ..errors import ConfigError
from ..limits import CHOICES
from ..presets import ABOUT

Command = Callable[..., Any]

# Option of the command line (as a Python name) to setting.
SETTINGS = {
    "data": "data.path",
    "classes": "data.classes",
    "image_pattern": "data.image_pattern",
    "mask_pattern": "data.mask_pattern",
    "split": "data.split",
    "unlabeled": "data.unlabeled",
    "labeled": "data.labeled",
    "val": "data.val",
    "mismatch": "data.mismatch",
    "model": "model.factory",
    "weights": "model.weights",
    "method": "method.name",
    "steps": "train.steps",
    "batch_labeled": "train.batch_labeled",
    "batch_unlabeled": "train.batch_unlabeled",
    "crop": "train.crop",
    "seed": "train.seed",
    "device": "train.device",
    "precision": "train.precision",
    "workers": "train.workers",
    "compile_": "train.compile",
    "tensorboard": "train.tensorboard",
}


def data_options(command: Command) -> Command:
    """--data and how images and masks are found in it."""
    options = [
        click.option("--data", metavar="PATH|demo", help="Folder of images and masks, or demo."),
        click.option("--classes", metavar="FILE", help="Class table, CSV: name,r,g,b or name,value."),
        click.option("--image-pattern", metavar="PATTERN", help="Unusual names, e.g. 'scenes/{id}_rgb.tif'."),
        click.option("--mask-pattern", metavar="PATTERN", help="The masks of --image-pattern."),
        click.option(
            "--mismatch",
            type=click.Choice(CHOICES["data.mismatch"]),
            help="Image and mask of different size: stop, use what both have, or leave out.",
        ),
    ]
    return _applied(options, command)


class MethodName(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """One of our methods, or `module:function` of the user's."""

    name = "method"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse any other name, with those there are."""
        if value not in CHOICES["method.name"] and ":" not in value:
            close = difflib.get_close_matches(value, CHOICES["method.name"], 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(CHOICES['method.name'])}."
            self.fail(f"no method {value!r}; {hint}", param, ctx)
        return value


def method_option(command: Command) -> Command:
    """--method, one of ours or of the user's."""
    names = ", ".join(CHOICES["method.name"])
    text = f"What is trained: {names}; or your own. s4net by default."
    return click.option("--method", type=MethodName(), metavar="NAME|MODULE:FUNCTION", help=text)(command)


def preset_option(command: Command) -> Command:
    """--preset, as `preset_name`."""
    text = "; ".join(f"{name}: {about}" for name, about in ABOUT.items()) + ". paper by default, quick for the demo."
    return click.option("--preset", "preset_name", type=click.Choice(list(ABOUT)), help=text)(command)


def model_option(command: Command) -> Command:
    """--model, for networks of the user's."""
    return click.option(
        "--model",
        metavar="MODULE:FUNCTION",
        help="Your own network, in place of the paper's: function(classes, bands) gives it.",
    )(command)


def split_options(command: Command) -> Command:
    """How tiles are divided."""
    options = [
        click.option("--labeled", type=click.IntRange(1), metavar="N", help="Labelled tiles."),
        click.option("--val", type=click.IntRange(1), metavar="M", help="Validation tiles."),
        click.option("--unlabeled", metavar="FOLDER|GLOB", help="Further images without masks."),
        click.option("--seed", type=click.IntRange(0), help="Of all that is random."),
    ]
    return _applied(options, command)


def split_choice(command: Command) -> Command:
    """--split of commands that look at a trained run."""
    text = "Which tiles; all: every labelled tile of --data; FILE: its val."
    return click.option("--split", default="val", show_default=True, metavar="val|all|FILE", help=text)(command)


def device_options(command: Command) -> Command:
    """Where and how the network runs."""
    options = [
        click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N."),
        click.option("--precision", type=click.Choice(CHOICES["train.precision"]), help="Of the forward."),
    ]
    return _applied(options, command)


def workers_option(command: Command) -> Command:
    """--workers of commands that read tiles."""
    return click.option("--workers", type=click.IntRange(0), metavar="N", help="Threads that read data.")(command)


def set_option(command: Command) -> Command:
    """--set, for every setting there is."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="GROUP.KEY=VALUE",
        help="Any setting, e.g. --set train.lr=0.02; may be repeated.",
    )(command)


def settings_of(options: dict[str, Any], assignments: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings that options ask for; those not given are left out, `--set` comes last."""
    given = {SETTINGS[name]: value for name, value in options.items() if value is not None}
    return {**given, **dict(parse_assignment(text) for text in assignments)}


def require_data(config: DataConfig) -> None:
    """Hold a command to being told which data is meant, and that to being there.

    Raises:
        ConfigError: A file of the settings is not there.
        DataError: The folder is not there.
    """
    if not config.path:
        raise click.UsageError("--data is missing: a folder of images and masks, or demo")
    if config.path != "demo":
        check_folder(Path(config.path))
    for option, file in (("--classes", config.classes), ("--split", config.split)):
        if file is not None:
            require_file(file, option)


def require_changed(changes: Mapping[str, Any], split: str) -> None:
    """Hold the data that a command looks at in place of a run's to being there; as `require_data`.

    Args:
        changes: Settings that differ from those of the run.
        split: As `split_choice` takes it.
    """
    named = {key: value for key, value in changes.items() if key.startswith("data.")}
    require_data(Config().updated({"data.path": "demo", **named}).data)
    if split not in ("val", "all"):
        require_file(split, "--split")


def require_file(path: str, option: str) -> None:
    """Hold a file that an option names to being there.

    Raises:
        ConfigError: It is not.
    """
    if not Path(path).exists():
        raise ConfigError(f"{option} {path} does not exist; check the path")


def require_named(config: Config, given: Mapping[str, Any]) -> None:
    """Hold a command to having been given the name of code that it runs: a file must not say what is run.

    Raises:
        ConfigError: Settings that were read from a run, or a file of settings, name a function.
    """
    if config.model.factory == GIVEN:
        raise ConfigError(
            "the run was made from Python with a network of its own: go on with s4aug_train.fit(config, out=..., "
            "model=..., resume=True)"
        )
    named = {"--model": ("model.factory", config.model.factory)}
    if ":" in config.method.name:
        named["--method"] = ("method.name", config.method.name)
    for option, (key, value) in named.items():
        if value and key not in given:
            raise ConfigError(f"the settings name {value}, whose code would be run; say so with {option} {value}")


def refuse_existing(path: Path, option: str) -> None:
    """Hold a file to write to being new: a table or a split may have been edited by hand.

    Raises:
        ConfigError: It is there.
    """
    if path.exists():
        raise ConfigError(f"{option} {path} exists; remove it, or choose another name")


def _applied(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
