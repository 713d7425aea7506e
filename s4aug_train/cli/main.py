"""`s4aug-train`: the group of commands, and how errors end."""

from typing import Any, NoReturn

import click
import torch

from s4aug import S4AugError, __version__

from ..errors import S4AugTrainError
from ..ranks import here
from .demo_data import demo_data
from .doctor import doctor
from .evaluate import evaluate
from .fit import fit
from .split import split

# Whose errors name them when a process is lost.
COLLECTIVES = ("gloo", "nccl", "connection", "recv", "socket")


class Commands(click.Group):
    """A group in which a user's mistake ends with one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of ours become one line."""
        try:
            return super().invoke(ctx)
        except (S4AugTrainError, S4AugError) as error:
            _fail(ctx, str(error))
        except torch.OutOfMemoryError as error:
            _fail(ctx, f"the GPU's memory is full; lower --crop or the batch sizes ({error})")
        except RuntimeError as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            # By the module's name: to import it for the question would take seconds.
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                _fail(ctx, f"torch.compile failed ({cause}); leave out --compile")
            if here().count > 1 and any(name in cause.lower() for name in COLLECTIVES):
                _fail(ctx, f"another process of the run is gone ({cause}); go on with the same command and --resume")
            raise
        except MemoryError as error:
            _fail(ctx, f"memory is full; lower --crop or the batch sizes ({error})")
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(ctx, f"{where}{error.strerror or error}; check the path and its permissions")
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def _fail(ctx: click.Context, text: str) -> NoReturn:
    ranks = here()
    which = f" (process {ranks.rank})" if ranks.count > 1 else ""
    click.echo(f"error{which}: {text}", err=True)
    ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="s4aug-train")
def main() -> None:
    """Semi-supervised land-cover segmentation: S4Net, its baselines, and what training needs around them."""


for command in (fit, evaluate, doctor, split, demo_data):
    main.add_command(command)
