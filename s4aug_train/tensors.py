"""Files of torch that users hand over: read without running code, and held to plain tensors."""

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_tensors(path: Path) -> Any:
    """What `torch.save` wrote to a file, on the CPU; no code in it is run.

    Raises:
        ValueError: A tensor claims more numbers than the file holds, or is sparse or on no device; or the file is
            compressed, which torch's are not, and whose size in memory nobody knows.
        Exception: Whatever torch raises of a file that is damaged or none of its own.
    """
    check_stored(path)
    # Of what is deprecated in a file, and of what it should not hold, which is told here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=True)
    for tensor in _tensors_in(content):
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"a tensor is {tensor.layout} on {tensor.device}")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor of {list(tensor.shape)} is not all there")
    return content


def check_stored(path: Path) -> None:
    """Hold a file, if it is an archive, to being as large in memory as on disk.

    Raises:
        ValueError: It is compressed.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is compressed")


def _tensors_in(content: Any) -> Iterator[Tensor]:
    """The tensors of nested containers, each container once."""
    left, seen = [content], set[int]()
    while left:
        part = left.pop()
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, dict | list | tuple | set) and id(part) not in seen:
            seen.add(id(part))
            left += part.values() if isinstance(part, dict) else part
