"""The formats of exported networks: how each is written, and how it is run to be compared."""

import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .deployed import Deployed
from .description import Description
from .errors import ExportError
from .exported import onnx_runner, onnx_session, read_safetensors
from .imports import of_extra
from .limits import check_export
from .parity import Sample

EXAMPLE = (2, 64, 96)  # batch and sides of what is traced
EXTRA_FILE = "s4aug.json"  # of a torch-export archive
CPU = torch.device("cpu")

Run = Callable[[Sample], Tensor]
Own = nn.Module | str | None


@dataclass(frozen=True)
class Format:
    """One of the formats.

    Args:
        name: As --format takes it.
        write: Writes a network (on the CPU, in evaluation mode) and what it tells of itself to a file.
        open: A written file as a function from samples to probabilities; the network of the user's, if it was one.
        packages: Of the extra `export`, all of which it takes.
    """

    name: str
    write: Callable[[nn.Module, Description, Path], None]
    open: Callable[[Path, Own], Run]
    packages: tuple[str, ...] = ()

    def check(self) -> None:
        """Hold an export to having its packages, before anything is done.

        Raises:
            ConfigError: One is missing.
        """
        for package in self.packages:
            of_extra(package, "export")


def format_of(name: str, out: Path) -> Format:
    """The format of a name, for a file whose name ends as it must.

    Raises:
        ConfigError: There is no such format, or the file's name ends otherwise.
    """
    check_export(name, out)
    return FORMATS[name]


def _write_safetensors(network: nn.Module, description: Description, path: Path) -> None:
    # Weights that are one in memory are written twice: the format has no other way.
    weights = {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
    content: bytes = of_extra("safetensors.torch", "export").save(weights, description.metadata())
    path.write_bytes(content)


def _open_safetensors(path: Path, own: Own) -> Run:
    # Into a copy: a module of the user's is the one that is compared with.
    segmenter = read_safetensors(path, CPU, "fp32", copy.deepcopy(own)).segmenter
    return lambda sample: segmenter.probabilities(segmenter.inputs(*sample))


def _write_onnx(network: nn.Module, description: Description, path: Path) -> None:
    program = _traced(network, description)
    try:
        with _no_warnings():
            made: Any = torch.onnx.export(
                program, dynamo=True, input_names=["image"], output_names=["probabilities"], verbose=False
            )
    except Exception as error:  # whatever an operation of the user's meets
        raise _untraceable("ONNX", error) from error
    for value in (made.model.graph.inputs[0], made.model.graph.outputs[0]):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.shape[axis] = name
    made.model.metadata_props.update(_graph_metadata(description))
    path.write_bytes(made.model_proto.SerializeToString())


def _open_onnx(path: Path, own: Own) -> Run:
    run = onnx_runner(onnx_session(path, CPU), path)
    return lambda sample: run(sample.pixels())


def _write_torch_export(network: nn.Module, description: Description, path: Path) -> None:
    program = _traced(network, description)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={EXTRA_FILE: json.dumps(_graph_metadata(description), indent=2)})
    path.write_bytes(buffer.getbuffer())


def _open_torch_export(path: Path, own: Own) -> Run:
    with path.open("rb") as file, _no_warnings():
        network = torch.export.load(file).module()
    return lambda sample: network(sample.pixels()).detach()


FORMATS = {
    form.name: form
    for form in (
        Format("onnx", _write_onnx, _open_onnx, ("onnx", "onnxscript", "onnxruntime")),
        Format("torch-export", _write_torch_export, _open_torch_export),
        Format("safetensors", _write_safetensors, _open_safetensors, ("safetensors",)),
    )
}


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Older releases of torch warn of their own code; what it gives is compared anyhow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _traced(network: nn.Module, description: Description) -> Any:
    """The graph from pixels to probabilities, for any batch and size."""
    # A copy, for it may be the user's; in the plain layout, which archives expect.
    own = copy.deepcopy(network).requires_grad_(False).to(memory_format=torch.contiguous_format)
    deployed = Deployed(own, description.normalization, description.stride).eval()
    batch, height, width = EXAMPLE
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    example = torch.zeros(batch, description.bands, height, width)
    try:
        return torch.export.export(deployed, (example,), dynamic_shapes=(free,))
    except Exception as error:  # whatever the user's network raises
        raise _untraceable("torch.export", error) from error


def _graph_metadata(description: Description) -> dict[str, str]:
    """With what the graph takes and gives, in words."""
    bands, classes = description.bands, len(description.classes.names)
    return {
        **description.metadata(),
        "input": (
            f"image [batch, {bands}, height, width] float32: pixels as stored ({description.dtype}), neither scaled "
            f"nor normalised; a pixel without data is NaN in any band; any batch, height and width"
        ),
        "output": f"probabilities [batch, {classes}, height, width] float32 in the order of class_names; sum 1",
    }


def _untraceable(what: str, error: Exception) -> ExportError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ExportError(
        f"{what} cannot follow the network ({type(error).__name__}: {reason}); its forward must take any batch and "
        f"any sides that are multiples of 32 without asking their values; --format safetensors needs no graph"
    )
