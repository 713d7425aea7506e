"""A wrong result fails its case, whoever's it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.cases import KINDS, TRAINING, VERIFY, base_case, cases_of
from benchmarks.contest import Contest, Finding, WrongResult, compared, same_mask, verify
from benchmarks.contests import make_contest

WARPS = [kind for kind in KINDS if kind not in TRAINING]


def spoiled(raw, at):
    """What a contender returned, with one of its arrays moved by a pixel (or a number changed)."""
    if isinstance(raw, torch.Tensor):
        if raw.dtype == torch.bool:
            return ~raw
        return raw * 1.5 if raw.ndim == 0 else raw.roll(1, -1)
    if isinstance(raw, np.ndarray):
        return np.roll(raw, 1, axis=1)
    parts = list(raw)
    parts[at] = spoiled(parts[at], 0)
    return type(raw)(*parts) if hasattr(raw, "_fields") else type(raw)(parts)


def parts_of(kind, contender):
    """Which of the parts that are returned the judge must look at."""
    if kind == "objective" and contender.role != "limit":
        return [0, 1, 2]
    both = contender.role == "ours" or contender.name.endswith("mask") or kind in ("forward+backward", "backward")
    return [0, 1] if both and contender.role != "limit" else [0]


@pytest.mark.parametrize("kind", WARPS)
def test_a_planted_wrong_result_is_found_in_every_contender(kind):
    contest = make_contest(base_case(kind, VERIFY, "cpu"))
    assert {contender.role for contender in contest.contenders} == {"ours", "peer", "limit"}
    for contender in contest.contenders:
        for part in parts_of(kind, contender):
            wrong = replace(contender, run=lambda run=contender.run, part=part: spoiled(run(), part))
            with pytest.raises(WrongResult, match="is off by"):
                verify(Contest(contest.case, (wrong,), {}))


def test_a_step_with_another_loss_is_found():
    contest = make_contest(base_case("step", VERIFY, "cpu"))
    kornia = next(each for each in contest.contenders if each.name == "Kornia")
    told = kornia.run()
    assert all(finding.error <= finding.limit for finding in kornia.judge(told))
    found = kornia.judge({**told, "loss_consistency": told["loss_consistency"] * 1.1})
    assert [finding.what for finding in found if not finding.error <= finding.limit] == ["consistency"]


def test_nan_is_never_within_a_limit():
    contest = make_contest(base_case("forward", VERIFY, "cpu"))
    sick = replace(contest.contenders[0], judge=lambda raw: [Finding("image", float("nan"), 1.0)])
    with pytest.raises(WrongResult):
        verify(replace(contest, contenders=(sick,)))
    assert compared("image", torch.tensor([torch.nan, 0.0]), torch.zeros(2), 1.0).error != 0


def test_ours_must_be_the_same_twice_and_a_peer_is_noted():
    contest = make_contest(base_case("backward", VERIFY, "cpu"))
    ours, peer = contest.contenders[0], next(c for c in contest.contenders if c.role == "peer")
    scale = iter([1.0, 1 + 1e-7] * 2)

    def trembling(run):
        moved, gradient = run()
        return moved, gradient * next(scale)

    noted = verify(replace(contest, contenders=(replace(peer, run=lambda: trembling(peer.run)),)))
    assert noted == {peer.name: False}
    with pytest.raises(WrongResult, match="two runs differ"):
        verify(replace(contest, contenders=(replace(ours, run=lambda: trembling(ours.run)),)))


def test_one_wrong_pixel_of_a_mask_counts():
    mask = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    other = mask.clone()
    other[0, 0, 1, 2] = True
    assert same_mask(mask, mask).error == 0
    assert same_mask(other, mask).error == pytest.approx(1 / 20)


@pytest.mark.parametrize("kind", KINDS)
def test_cases_begin_with_the_base_and_differ_along_one_axis(kind):
    from benchmarks.cases import FULL

    cases = cases_of(kind, FULL, "cpu")
    base = base_case(kind, FULL, "cpu")
    assert cases[0] == base
    assert len(set(cases)) == len(cases)
    for case in cases:
        differing = {name for name in ("channels", "size", "dtype") if getattr(case, name) != getattr(base, name)}
        assert len(differing) <= 1
        assert case.batch == base.batch or differing <= {"size"}
