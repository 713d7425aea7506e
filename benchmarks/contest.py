"""A contest: ours, the peers and the limit on the same work, each verified before it is timed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .cases import Case

ROLES = ("ours", "peer", "limit", "part")


class WrongResult(AssertionError):
    """A contender's result is not what it should be; its time would mean nothing."""


class Finding(NamedTuple):
    """How far a result is from the truth, and how far it may be."""

    what: str
    error: float
    limit: float


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to do the work.

    Args:
        name: As in tables.
        role: "ours"; "peer"; "limit", what nobody can beat, as a copy of the same bytes; "part" of our work.
        run: The work. Only this is timed.
        judge: Compares what `run` returns with the truth.
        repeated: The tensors in what `run` returns that a second run must show again, to the bit.
        counts: How often a run does the work; times are of one.
        figures: Asked after the last run: shares and the like, by name.
    """

    name: str
    role: str
    run: Callable[[], Any]
    judge: Callable[[Any], list[Finding]]
    repeated: Callable[[Any], list[Tensor]] = field(default=lambda raw: [])
    counts: int = 1
    figures: Callable[[], dict[str, float]] = dict


@dataclass(frozen=True, eq=False)
class Contest:
    """Contenders of one case.

    Args:
        case: The work.
        contenders: At least one of ours, which comes first.
        refused: Who cannot do it, and why.
    """

    case: Case
    contenders: tuple[Contender, ...]
    refused: Mapping[str, str]


def verify(contest: Contest) -> dict[str, bool]:
    """Hold every contender to the truth.

    Returns:
        For each contender with tensors to compare whether a second run returned the same bits.

    Raises:
        WrongResult: A result is wrong, or ours is not the same twice.
    """
    repeatable = {}
    for contender in contest.contenders:
        raw = contender.run()
        for finding in contender.judge(raw):
            # Not "error > limit": that would let NaN pass.
            if not finding.error <= finding.limit:
                raise WrongResult(
                    f"{contest.case.name}: {contender.name}: {finding.what} is off by {finding.error:.3g}, "
                    f"allowed {finding.limit:.3g}"
                )
        first = [tensor.clone() for tensor in contender.repeated(raw)]
        if first:
            again = contender.repeated(contender.run())
            repeatable[contender.name] = all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        if contender.role == "ours" and not repeatable.get(contender.name, True):
            raise WrongResult(f"{contest.case.name}: {contender.name}: two runs differ")
    return repeatable


def compared(
    what: str,
    got: Tensor,  # [B, C, h, w]
    expected: Tensor,  # [B, C, h, w]
    limit: float,
    where: Tensor | None = None,  # [B, 1, h, w] bool
) -> Finding:
    """The largest difference, everywhere or where told."""
    assert got.shape == expected.shape, f"{what}: {list(got.shape)} instead of {list(expected.shape)}"
    difference = (got.float() - expected.float()).abs()
    if where is not None:
        assert where.any(), f"{what}: nothing to compare"
        difference = difference[where.expand_as(difference)]
    # max() of a NaN is NaN.
    return Finding(what, float(difference.max()), limit)


def same_mask(got: Tensor, expected: Tensor, limit: float = 0.0) -> Finding:  # both [B, 1, h, w] bool
    """The share of pixels whose validity differs."""
    return Finding("validity", float((got != expected).float().mean()), limit)
