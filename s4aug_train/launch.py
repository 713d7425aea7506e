"""Which of the processes of a run this is, as torchrun says it; told without torch, which takes seconds to load."""

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError

NAMES = {"rank": "RANK", "count": "WORLD_SIZE", "local": "LOCAL_RANK", "local_count": "LOCAL_WORLD_SIZE"}


@dataclass(frozen=True)
class Rank:
    """One of the processes of a run.

    Args:
        rank: Of this process, from 0.
        count: Of processes.
        local: Of this process among those of its machine.
        local_count: Of processes on its machine.
        launch: Of torchrun on this machine: one name for all attempts that it makes; empty without torchrun.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    local_count: int = 1
    launch: str = ""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


ONLY = Rank()


def here() -> Rank:
    """What torchrun says in the environment; one process without it.

    Raises:
        ConfigError: What it says is no number.
    """
    said = {field: os.environ.get(name) for field, name in NAMES.items()}
    launch = _launch(os.environ.get("TORCHELASTIC_ERROR_FILE", ""))
    if None in said.values():
        return ONLY
    try:
        return Rank(**{field: int(text or "") for field, text in said.items()}, launch=launch)
    except ValueError as error:
        raise ConfigError(f"{', '.join(NAMES.values())} must be numbers, got {said}; start by torchrun") from error


def _launch(error_file: str) -> str:
    """Where torchrun keeps what its processes say, `LAUNCH/attempt_N/RANK/error.json`: new for each launch."""
    parents = Path(error_file).parents
    return str(parents[2]) if len(parents) > 2 else ""
