"""The softmax over classes inside kernels: its peak and sum grow class by class, in one pass over the logits."""

import torch
import triton
import triton.language as tl

# Below any logit, and finite, so that a class at -inf is farther down still.
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


@triton.jit
def grown(b_peak, b_logit):
    """The peak with one more class, what sums made under the old one shrink by, and the class's exponential."""
    b_above = b_logit - b_peak
    # One exponential serves both: the lower of the two is measured from the higher.
    b_lower = tl.exp(-tl.abs(b_above))
    m_rises = b_above > 0
    return tl.maximum(b_peak, b_logit), tl.where(m_rises, b_lower, 1.0), tl.where(m_rises, 1.0, b_lower)


@triton.jit
def normalizer(b_peak, b_sum):
    """What exponentials under the peak are divided by; a class at inf leaves no probabilities, as in torch."""
    return tl.where(b_peak == float("inf"), float("nan"), b_sum)
