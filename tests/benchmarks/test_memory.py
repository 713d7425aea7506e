"""Peak memory is what the work adds, to the page."""

import sys

import pytest
import torch

from benchmarks.cases import VERIFY, base_case
from benchmarks.memory import MemoryMeter, resident_peak

MIB = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def meter():
    meter = MemoryMeter()
    yield meter
    meter.close()


def peak_of_allocating(mebibytes):
    """Two arrays that live at the same time, after a larger one that was freed: that one must not be used again."""
    torch.ones(100 * MIB // 4)
    return resident_peak(lambda: torch.ones(mebibytes * MIB // 4) + torch.ones(mebibytes * MIB // 4))


def test_what_lives_at_the_same_time_is_counted(meter):
    # Two terms and their sum.
    assert meter._process.submit(peak_of_allocating, 20).result() / MIB == pytest.approx(60, abs=2)


def test_each_contender_is_measured(meter):
    from benchmarks.contests import make_contest

    contest = make_contest(base_case("forward", VERIFY, "cpu"))
    peaks = meter.peaks(contest)
    assert set(peaks) == {contender.name for contender in contest.contenders}
    assert all(0 <= peak < 20 * MIB for peak in peaks.values())
