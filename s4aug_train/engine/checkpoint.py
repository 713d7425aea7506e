"""Checkpoints: whole or absent, readable without running code, holding all that going on needs."""

import errno
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import GIVEN, Config, ModelConfig
from ..data.normalization import Normalization
from ..data.palette import ClassEntry, ClassTable
from ..data.split import PARTS, Split
from ..errors import CheckpointError, DamagedError
from ..files import atomic_path
from ..model import UNet, own_network
from ..segmenter import Segmenter, weights_hash
from ..tensors import check_stored, read_tensors
from .device import chosen_precision

VERSION = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training run at one step.

    Args:
        step: Steps done.
        config: All settings of the run.
        classes: Names, colours, values.
        bands: Bands of the images.
        dtype: Their pixel type.
        normalization: Of the images.
        split: Tile ids by use.
        best: Best validation mIoU so far, or None.
        network: State dict.
        training: Optimizer and gradient scaler state.

    Raises:
        CheckpointError: One of these is of another kind than it should be.
    """

    step: int
    config: Config
    classes: ClassTable
    bands: int
    dtype: str
    normalization: Normalization
    split: Split
    best: float | None
    network: Mapping[str, Tensor]
    training: Mapping[str, Any]

    def __post_init__(self) -> None:
        wrong = {
            "step": not _is_count(self.step),
            "bands": not _is_count(self.bands) or self.bands < 1,
            "dtype": self.dtype not in ("uint8", "uint16", "float32"),
            "normalization": len(self.normalization.mean) != self.bands,
            "best": self.best is not None and not isinstance(self.best, float),
            "network": not _is_state(self.network),
            "training": not isinstance(self.training, Mapping),
        }
        if names := [name for name, is_wrong in wrong.items() if is_wrong]:
            raise CheckpointError(f"{', '.join(names)} cannot be")

    def write(self, path: Path, previous: Path | None = None) -> None:
        """Write to `path`, whole or not at all.

        Args:
            path: The file.
            previous: What an older file at `path` is renamed to once the new one has been written, synced and read
                back. A kill between the two renames leaves `previous` alone.

        Raises:
            S4AugTrainError: It cannot be written; older files stay as they were.
        """
        content = {
            "version": VERSION,
            "step": self.step,
            "config": self.config.to_dict(),
            "classes": [[e.name, e.color, e.value, e.ignored] for e in self.classes.entries],
            "bands": self.bands,
            "dtype": self.dtype,
            "normalization": vars(self.normalization),
            "split": self.split.to_dict(),
            "best": self.best,
            "network": dict(self.network),
            "training": dict(self.training),
        }
        with atomic_path(path) as temporary:
            _save(content, temporary)
            if previous is not None:
                with suppress(FileNotFoundError):
                    path.replace(previous)

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint, on the CPU, with `weights_only=True`.

        Raises:
            CheckpointError: It is missing, damaged, or none of ours.
        """
        try:
            _check_sums(path)
            content = read_tensors(path)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"no checkpoint at {path}; give a run folder or a file of its checkpoints/"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            told = f"cannot read {path}: {reason}; check its permissions and its disk"
            # What the file cannot help, as a limit of open files, is no reason to pass over it.
            raise (DamagedError(reason, told) if error.errno == errno.EIO else CheckpointError(told)) from error
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedError(
                f"damaged or not one of ours: {type(error).__name__}",
                f"{path} cannot be read as a checkpoint ({type(error).__name__}); it is damaged or not one of ours: "
                f"use another of the run's checkpoints/, previous.pt or best.pt",
            ) from error
        try:
            return cls._from_content(content if isinstance(content, dict) else {})
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DamagedError(
                f"not one of ours, or of another version: {error!r}",
                f"{path} is no checkpoint of s4aug-train, or of another version: {error!r}; give a file of a run's "
                f"checkpoints/",
            ) from error

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> "Checkpoint":
        if content["version"] != VERSION:
            raise KeyError(f"version {content['version']}")
        # What can be indexed need not be a dictionary: a tensor warns.
        for part in ("config", "split", "normalization"):
            if not isinstance(content[part], dict):
                raise TypeError(f"{part} is no dictionary")
        settings = {f"{g}.{k}": v for g, values in content["config"].items() for k, v in values.items()}
        split = content["split"]
        stored = content["normalization"]
        return cls(
            step=content["step"],
            config=Config().updated(settings),
            classes=ClassTable(tuple(ClassEntry(*row) for row in content["classes"])),
            bands=content["bands"],
            dtype=content["dtype"],
            normalization=Normalization(tuple(stored["mean"]), tuple(stored["std"]), stored["source"]),
            split=Split(**{part: tuple(split[part]) for part in PARTS}, how=split["how"]),
            best=content["best"],
            network=content["network"],
            training=content["training"],
        )

    def build_network(self, own: nn.Module | str | None = None) -> nn.Module:
        """The network that is evaluated, with these weights, on the CPU, in evaluation mode.

        Args:
            own: The user's network, or its name, where the run was one of that. A name that only the checkpoint
                gives is not followed: a file must not say what code runs.

        Raises:
            CheckpointError: It is needed and not given, or weights do not fit or are not finite.
        """
        weights = self._evaluated()
        return built_network(weights, len(self.classes.names), self.bands, self.config.model, own)

    def segmenter(self, device: torch.device, precision: str = "auto", own: nn.Module | str | None = None) -> Segmenter:
        """What is evaluated, on a device.

        Args:
            device: Where the network goes.
            precision: Of the forward, as `train.precision`.
            own: As in `build_network`.

        Raises:
            CheckpointError: As in `build_network`.
        """
        network = self.build_network(own).to(device)
        return Segmenter(
            network,
            self.classes,
            self.bands,
            self.dtype,
            self.normalization,
            device,
            chosen_precision(precision, device),
            weights_hash(self._evaluated()),
        )

    def _evaluated(self) -> Mapping[str, Tensor]:
        """The weights of the student, or of the teacher."""
        if self.config.method.evaluate != "teacher":
            return self.network
        partner = self.training.get("partner", {})
        return {key.removeprefix("network."): value for key, value in partner.items() if key.startswith("network.")}


def built_network(
    weights: Mapping[str, Tensor], classes: int, bands: int, model: ModelConfig, own: nn.Module | str | None
) -> nn.Module:
    """A network with trained weights; as `Checkpoint.build_network`, of which it is the part without a run.

    Args:
        weights: State dict.
        classes: Number of classes.
        bands: Of the images.
        model: Which network it was.
        own: The user's network, or its name.

    Raises:
        CheckpointError: As there.
    """
    named = model.factory
    if named and own is None:
        cure = "give it from Python, as model=..." if named == GIVEN else f"say so with --model {named}"
        raise CheckpointError(f"the checkpoint is of a network of the user's ({named}), whose code is run; {cure}")
    network = own_network(own, classes, bands) if own else UNet(classes, bands, model.encoder)
    try:
        network.load_state_dict(dict(weights))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"the checkpoint's weights do not fit its own settings: {reason}") from error
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise CheckpointError("the checkpoint's weights are not finite; use another of the run's checkpoints/")
    return network.eval()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _save(content: Mapping[str, Any], path: Path) -> None:
    """Write, sync and read back.

    Raises:
        OSError: One of these failed.
    """
    try:
        with path.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        # torch hides why a write failed, for example on a full disk, behind an error of its own.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise OSError(f"{str(error).splitlines()[0]} (a full disk?)") from error
    try:
        _check_sums(path)
    except Exception as error:
        raise OSError(f"what was written cannot be read back ({type(error).__name__}: a failing disk?)") from error


def _check_sums(path: Path) -> None:
    """Hold a file to its own checksums, at which torch does not look.

    Raises:
        BadZipFile: One is wrong, or the file has none.
        ValueError: It is compressed.
    """
    check_stored(path)
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile
