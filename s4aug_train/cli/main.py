"""`s4aug-train`: the group of commands, and how errors end."""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from ..errors import S4AugTrainError, memory_is_full
from .line import one_line

# Each is in the file of its name, loaded when it is called. What takes seconds to load, as torch does, a command
# imports itself, once it has checked what it was given.
COMMANDS = {
    "fit": "Train a network on labelled and unlabelled tiles, and evaluate it on whole held-out tiles.",
    "evaluate": "Evaluate RUN (a run folder or a checkpoint file): IoU by class over one confusion matrix.",
    "predict": "Predict rasters with RUN: for each INPUT a map of labels, a Cloud Optimized GeoTIFF on its grid.",
    "export": "Write the network of RUN (a run folder or a checkpoint file) for use elsewhere, and check it.",
    "report": "Write RUN... (run folders or checkpoint files) as one page: results, curves, pictures, settings.",
    "doctor": "Check a data set: files, sizes, classes, and whether training would fail (exit 1).",
    "preview": "Show what the perturbation does to some of your tiles: views, masks, and both views undone.",
    "split": "Divide tiles into labelled, unlabelled and validation, by seed, stratified by class presence.",
    "reproduce": "Train all runs of a table of the paper, or go on, and show ours beside the paper's figures.",
    "demo-data": "Write a made-up land-cover set to FOLDER, in the official DeepGlobe layout.",
}
# Whose errors name them when a process is lost.
COLLECTIVES = ("gloo", "nccl", "connection", "recv", "socket")


class Commands(click.Group):
    """A group in which a user's mistake ends with one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, loaded now."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f".{name}", __package__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, none of which need be loaded for it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of ours become one line."""
        if isinstance(sys.stdout, TextIOWrapper):
            # As standard error does with names of files that are no text, or not in the terminal's encoding.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except click.UsageError as error:
            # Click lists choices below each other.
            raise click.UsageError(one_line(" ".join(error.format_message().split())), error.ctx) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except Exception as error:
            text = told(error)
            if text is None:
                raise
            _fail(ctx, text)


def told(error: Exception) -> str | None:
    """What a user is told of an error, with the cure; None for one that is a fault of ours."""
    # What has not been loaded has not raised.
    torch, library = sys.modules.get("torch"), sys.modules.get("s4aug.errors")
    if isinstance(error, S4AugTrainError) or (library is not None and isinstance(error, library.S4AugError)):
        return str(error)
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return f"the GPU's memory is full; lower --crop or the batch sizes ({error})"
    if memory_is_full(error):
        return f"memory is full; lower --crop or the batch sizes ({error})"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path and its permissions"
    cause = (str(error).strip() or type(error).__name__).splitlines()[0]
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"torch.compile failed ({cause}); leave out --compile"
    if isinstance(error, RuntimeError) and _rank() and any(name in cause.lower() for name in COLLECTIVES):
        return f"another process of the run is gone ({cause}); go on with the same command and --resume"
    return None


def _rank() -> str | None:
    """Which of several processes this is; None if there is one."""
    return os.environ.get("RANK") if os.environ.get("WORLD_SIZE", "1") != "1" else None


def _fail(ctx: click.Context, text: str) -> NoReturn:
    which = f" (process {_rank()})" if _rank() else ""
    click.echo(f"error{which}: {one_line(text)}", err=True)
    ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="s4aug", prog_name="s4aug-train")
def main() -> None:
    """Semi-supervised land-cover segmentation: S4Net, its baselines, and what training needs around them."""
