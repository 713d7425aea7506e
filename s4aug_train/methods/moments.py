"""What an optimizer remembers of earlier steps, put back from a file."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

STEP = "step"  # a number, where all else is as large as its parameter


def put_back_moments(optimizer: Optimizer, state: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Give an optimizer what a `state_dict` of it remembers, in tensors of its own; its settings stay as they are.

    A fused kernel reads and writes moments as far as their parameter reaches, whatever their own size: those of a file
    that was made to do harm would have it write elsewhere.

    Args:
        optimizer: Whose parameters are meant.
        state: As `state_dict` gave it.
        names: Of what is remembered of each parameter, if anything is.

    Raises:
        ValueError: It is not what an optimizer of these parameters remembers.
    """
    own = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": dict(state["state"]), "param_groups": own})
    for parameter, moments in optimizer.state.items():
        known = {name: value for name, value in moments.items() if value is not None}
        if not isinstance(parameter, Tensor) or (known and set(known) != set(names)):
            raise ValueError(f"an optimizer remembers {', '.join(names)} of each parameter, not {', '.join(known)}")
        for name, value in known.items():
            whole = torch.empty_like(parameter) if name != STEP else torch.tensor(0.0, device=parameter.device)
            if not isinstance(value, Tensor) or value.shape != whole.shape:
                raise ValueError(f"{name} of an optimizer is not of the shape {list(whole.shape)}")
            moments[name] = whole.copy_(value)
