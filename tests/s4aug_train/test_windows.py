import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s4aug_train.errors import ConfigError
from s4aug_train.windows import GRID, Windows


@given(st.integers(1, 300), st.integers(1, 100), st.data(), st.booleans())
def test_windows_cover_every_pixel_with_weights_that_sum_to_one(length, side, data, smooth):
    windows = Windows(side, data.draw(st.integers(1, side)), smooth=smooth)
    spans = windows.spans(length)
    total = np.zeros(length)
    for span in spans:
        assert 0 <= span.start < span.stop <= length
        assert len(span.weight) == span.stop - span.start <= side
        assert (span.weight >= 0).all()
        total[span.start : span.stop] += span.weight
    assert total == pytest.approx(np.ones(length), abs=1e-6)
    assert len({span.start for span in spans}) == len(spans)


def test_windows_of_one_weight_end_at_the_edge_as_the_papers_do():
    assert [span.start for span in Windows(512, 341).spans(2448)] == [0, 341, 682, 1023, 1364, 1705, 1936]
    assert Windows(4, 2).spans(8)[1].weight.tolist() == [0.5] * 4
    assert [span.start for span in Windows(512, 341).spans(512)] == [0]


@given(st.integers(513, 3000))
def test_smooth_windows_begin_where_a_network_of_the_deepest_stride_sees_the_same(length):
    spans = Windows(512, 384, smooth=True).spans(length)
    assert all(span.start % GRID == 0 for span in spans)
    assert spans[-1].stop == length


@given(st.integers(513, 3000))
def test_no_pixel_near_an_inner_edge_of_a_smooth_window_counts(length):
    for span in Windows(512, 384, smooth=True).spans(length):
        if span.start > 0:
            assert (span.weight[:32] == 0).all()
        else:
            assert (span.weight[:64] == 1).all()
        if span.stop < length:
            assert (span.weight[-32:] == 0).all()
        # No step anywhere: neighbours differ by at most the steepest slope of the fade.
        assert np.abs(np.diff(span.weight)).max() < 0.03


@pytest.mark.parametrize(("side", "stride", "batch"), [(0, 1, 1), (8, 9, 1), (8, 0, 1), (8, 4, 0)])
def test_windows_that_leave_gaps_are_refused(side, stride, batch):
    with pytest.raises(ConfigError, match="use numbers of at least 1"):
        Windows(side, stride, batch)
