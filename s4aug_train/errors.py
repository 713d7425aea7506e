"""Errors that a user can cause. Each message says what was wrong, where, and what to do."""


def memory_is_full(error: Exception) -> bool:
    """Whether an error says so: Python's own, or a plain RuntimeError of torch's allocator on the CPU."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


class S4AugTrainError(Exception):
    """Base of all errors of the trainer; the command line prints it as one line and exits with 1."""


class DataError(S4AugTrainError, ValueError):
    """A folder, image, mask, class table or split cannot be used as it is."""


class UnreadableError(DataError):
    """A file or a tile cannot be read; under `data.unreadable=skip` it is left out instead.

    Args:
        why: What is wrong and its cure, in one line.
        name: The file or the tile.
    """

    def __init__(self, why: str, name: str) -> None:
        super().__init__(why, name)
        self.why, self.name = why, name

    def __str__(self) -> str:
        return f"{self.why}, or leave it out with data.unreadable=skip"


class ConfigError(S4AugTrainError, ValueError):
    """A setting is unknown, has the wrong type or contradicts another one."""


class WeightsError(S4AugTrainError, RuntimeError):
    """Pretrained weights cannot be had or do not fit the network."""


class CheckpointError(S4AugTrainError, RuntimeError):
    """A checkpoint cannot be read or does not belong to this run."""


class DamagedError(CheckpointError):
    """A file is there and cannot be read as a checkpoint.

    Args:
        reason: What is wrong with it, without its name.
        message: The whole line.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TrainingError(S4AugTrainError, RuntimeError):
    """Training cannot go on."""


class ExportError(S4AugTrainError, RuntimeError):
    """A network cannot be exported, or the exported one computes something else."""
