"""`s4aug-train`: the group of commands, and how errors end."""

from typing import Any

import click
import torch

from s4aug import S4AugError, __version__

from ..errors import S4AugTrainError
from .demo_data import demo_data
from .doctor import doctor
from .evaluate import evaluate
from .fit import fit
from .split import split


class Commands(click.Group):
    """A group in which a user's mistake ends with one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of ours become one line."""
        try:
            return super().invoke(ctx)
        except (S4AugTrainError, S4AugError) as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except torch.OutOfMemoryError as error:
            click.echo(f"error: the GPU's memory is full; lower --crop or the batch sizes ({error})", err=True)
            ctx.exit(1)
        except RuntimeError as error:
            # By the module's name: to import it for the question would take seconds.
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            cause = str(error).strip().splitlines()[0]
            click.echo(f"error: torch.compile failed ({cause}); leave out --compile", err=True)
            ctx.exit(1)
        except MemoryError as error:
            click.echo(f"error: memory is full; lower --crop or the batch sizes ({error})", err=True)
            ctx.exit(1)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            reason = error.strerror or error
            click.echo(f"error: {where}{reason}; check the path and its permissions", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="s4aug-train")
def main() -> None:
    """Semi-supervised land-cover segmentation: S4Net, its baselines, and what training needs around them."""


for command in (fit, evaluate, doctor, split, demo_data):
    main.add_command(command)
