"""Steps that are not taken where a gradient is not finite, without asking the host."""

import torch
from torch import Tensor
from torch.optim import Optimizer


def skip_unless_finite(optimizer: Optimizer, *, or_if: Tensor | None = None) -> Tensor:  # scalar bool
    """Have a fused optimizer leave out its next step if a gradient is not finite; tells whether it will.

    The optimizer reads `found_inf` on the device, as it does for torch's gradient scaler.

    Args:
        optimizer: Its gradients are looked at.
        or_if: Scalar bool, another reason.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    skipped = ~torch.nn.utils.get_total_norm(gradients).isfinite()
    skipped = skipped if or_if is None else skipped | or_if
    optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
    return skipped
