"""Which of our backends are there, and how exact their results must be."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from s4aug import AffineTransform, BackendUnavailable, consistency_loss, warp
from s4aug.kernels import BACKENDS

# Largest difference from the reference, for values and weights of size 1, by dtype of the pixels.
ROUNDING = {"float32": 1e-5, "bfloat16": 2**-7, "float16": 2**-10, "uint8": 1e-5}


def label(backend: str) -> str:
    """What tables call a backend of ours."""
    return "s4aug" if backend == "auto" else f"s4aug ({backend})"


def backends(device: str) -> tuple[list[str], dict[str, str]]:
    """The choices to measure, "auto" first, and the named ones that are not there, with the reason."""
    there, missing = [], {}
    for name in BACKENDS:
        try:
            warp(
                torch.rand(1, 1, 3, 4, device=device), AffineTransform.identity(1, (3, 4), device=device), backend=name
            )
            there.append(name)
        except BackendUnavailable as reason:
            missing[label(name)] = str(reason)
    # With one backend alone, "auto" is that one.
    named = [name for name in there if name != "auto"]
    return ["auto", *(named if len(named) > 1 else [])], missing


def objectives(device: str) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
    """`consistency_loss` by the choices above, where it takes one."""
    if "backend" not in inspect.signature(consistency_loss).parameters:
        return {label("auto"): consistency_loss}, {}
    names, missing = backends(device)
    # As any callable: today's signature may not have the argument.
    loss: Callable[..., Any] = consistency_loss
    return {label(name): partial(loss, backend=name) for name in names}, missing
