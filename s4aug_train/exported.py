"""Exported networks in place of checkpoints: ONNX by onnxruntime, safetensors by the network of their metadata."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .data.normalization import Normalization
from .description import Description
from .engine import built_network, chosen_precision
from .errors import CheckpointError, ConfigError, DamagedError, ExportError
from .imports import of_extra
from .segmenter import Segmenter, weights_hash


class Exported(NamedTuple):
    """What an exported file holds."""

    segmenter: Segmenter  # ready for images as they are stored
    description: Description  # all else: windows, how it was trained, the step


def is_exported(path: Path) -> bool:
    """Whether a path is that of a file which `read_exported` reads, by its name."""
    return path.suffix.lower() in READERS


def read_segmenter(
    path: Path, device: torch.device, precision: str = "auto", own: nn.Module | str | None = None
) -> Segmenter:
    """The network of an exported file; see `read_exported`."""
    return read_exported(path, device, precision, own).segmenter


def read_exported(
    path: Path, device: torch.device, precision: str = "auto", own: nn.Module | str | None = None
) -> Exported:
    """Read a file of `s4aug-train export`, ONNX (.onnx) or safetensors (.safetensors); no code in it is run.

    Args:
        path: The file.
        device: Where the network runs; ONNX needs onnxruntime's CUDA provider to run on CUDA.
        precision: Of the forward, as `train.precision`; ONNX is always of float32.
        own: The user's network, or its name, where weights of one were exported as safetensors.

    Raises:
        CheckpointError: It is missing, damaged, not made by `s4aug-train export`, or of another version.
        ConfigError: A package is missing, or the device or the precision cannot be had.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise CheckpointError(f"{path} is no exported network that can be read; give a file {' or '.join(READERS)}")
    if not path.is_file():
        raise CheckpointError(f"no file at {path}; give one made by s4aug-train export")
    return read(path, device, precision, own)


def read_safetensors(path: Path, device: torch.device, precision: str, own: nn.Module | str | None) -> Exported:
    """As `read_exported`, whatever the file's name."""
    safetensors = of_extra("safetensors", "export")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (safetensors.SafetensorError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    description = Description.of(metadata, path)
    if weights_hash(weights) != description.weights:
        raise _damaged(path, ValueError("its weights are not those that were exported"))
    classes = len(description.classes.names)
    network = built_network(weights, classes, description.bands, description.model, own).to(device)
    return Exported(_segmenter(network, description, device, chosen_precision(precision, device)), description)


def read_onnx(path: Path, device: torch.device, precision: str, own: nn.Module | str | None) -> Exported:
    """As `read_exported`, whatever the file's name."""
    if precision not in ("auto", "fp32"):
        raise ConfigError(f"an ONNX file computes in float32, not {precision}; leave out --precision")
    session = onnx_session(path, device)
    description = Description.of(session.get_modelmeta().custom_metadata_map, path)
    put_in, put_out = session.get_inputs(), session.get_outputs()
    bands, classes = (
        part[0].shape[1] if len(part) == 1 and len(part[0].shape) == 4 else 0 for part in (put_in, put_out)
    )
    if (bands, classes) != (description.bands, len(description.classes.names)):
        raise _damaged(path, ValueError("its graph is not that of its metadata"))
    network = OnnxNetwork(onnx_runner(session, path), description.normalization).to(device)
    return Exported(_segmenter(network.eval(), description, device, None), description)


READERS: dict[str, Callable[[Path, torch.device, str, nn.Module | str | None], Exported]] = {
    ".onnx": read_onnx,
    ".safetensors": read_safetensors,
}


class OnnxNetwork(nn.Module):
    """A graph that takes pixels and gives probabilities, as a network that takes normalised images and gives logits.

    What is 0 after normalisation, as nodata, is the mean for the graph. The logits are logarithms of probabilities.

    Args:
        run: The graph: [B, bands, H, W] float32 pixels to [B, K, H, W] probabilities, both on the CPU.
        normalization: As in the graph.
    """

    mean: Tensor  # [bands, 1, 1]
    std: Tensor  # [bands, 1, 1]

    def __init__(self, run: Callable[[Tensor], Tensor], normalization: Normalization) -> None:
        super().__init__()
        self.run = run
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(normalization, name))[:, None, None])

    def forward(self, inputs: Tensor) -> Tensor:  # [B, bands, H, W] -> [B, K, H, W]
        """Logits of normalised images."""
        return self.run((inputs * self.std + self.mean).cpu()).to(inputs.device).log()


def onnx_session(path: Path, device: torch.device) -> Any:
    """A session of onnxruntime, with as many threads as torch has.

    Raises:
        ConfigError: onnxruntime is missing, or has no CUDA where that is asked for.
        DamagedError: The file is none of ONNX.
    """
    onnxruntime = of_extra("onnxruntime", "export")
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ConfigError(
                f"the onnxruntime that is installed does not run on {device}; use --device cpu, or install "
                f"onnxruntime-gpu in its place"
            )
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # What fails is raised, and told by us.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of onnxruntime's own, with no common base
        raise _damaged(path, error) from error


def onnx_runner(session: Any, path: Path) -> Callable[[Tensor], Tensor]:
    """A session as a function of tensors on the CPU."""
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {name: images.numpy()})[0])
        except Exception as error:  # of onnxruntime's own, with no common base
            raise ExportError(
                f"onnxruntime cannot run {path} on images {list(images.shape)}: {_line(error)}; use smaller windows, "
                f"or the size that it was fixed to"
            ) from error

    return run


def _segmenter(
    network: nn.Module, description: Description, device: torch.device, autocast: torch.dtype | None
) -> Segmenter:
    kind = description.classes, description.bands, description.dtype, description.normalization
    # The graph may have been changed since; a network of torch is held to the hash.
    weights = f"onnx {description.weights}" if isinstance(network, OnnxNetwork) else description.weights
    return Segmenter(network, *kind, device, autocast, weights)


def _damaged(path: Path, error: Exception) -> DamagedError:
    reason = f"damaged, or none that s4aug-train export made ({_line(error)})"
    return DamagedError(reason, f"{path} cannot be read: it is {reason}; export the run anew")


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
