import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdf.extract.media.sampling import DEFAULT_SAMPLING, clip_indices, uniform_indices
from mmdf.extract.perturb.timing import jittered_clip_indices, jittered_indices

offsets = st.floats(-0.5, 0.5)


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(1, 40), offsets)
def test_frames_stay_in_their_stretch(n_total: int, n_wanted: int, offset: float) -> None:
    found = jittered_indices(n_total, n_wanted, offset)
    n = min(n_total, n_wanted)
    assert found.dtype == np.int64
    assert len(found) == n
    assert (np.diff(found) > 0).all()
    stretch = np.arange(n) * n_total
    assert (found >= stretch // max(n, 1)).all()
    assert (found * n < stretch + n_total).all()


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(1, 40))
def test_no_offset_moves_no_frame(n_total: int, n_wanted: int) -> None:
    assert np.array_equal(jittered_indices(n_total, n_wanted, 0.0), uniform_indices(n_total, n_wanted))


def test_frames_move_by_the_share_asked() -> None:
    assert (jittered_indices(1600, 16, 0.25) - uniform_indices(1600, 16)).tolist() == [25] * 16
    assert (jittered_indices(1600, 16, -0.25) - uniform_indices(1600, 16)).tolist() == [-25] * 16


@settings(deadline=None)
@given(st.integers(0, 3000), st.sampled_from([10.0, 25.0, 29.97, 60.0]), offsets)
def test_clips_keep_their_shape_and_do_not_overlap(n_total: int, rate_hz: float, offset: float) -> None:
    found = jittered_clip_indices(n_total, rate_hz, DEFAULT_SAMPLING, offset)
    still = clip_indices(n_total, rate_hz, DEFAULT_SAMPLING)
    assert found.shape == still.shape
    assert np.array_equal(np.diff(found), np.diff(still))
    assert (np.diff(found.ravel()) > 0).all()
    assert not found.size or (found.min() >= 0 and found.max() < n_total)


@settings(deadline=None)
@given(st.integers(0, 3000), st.sampled_from([10.0, 25.0, 29.97, 60.0]))
def test_no_offset_moves_no_clip(n_total: int, rate_hz: float) -> None:
    found = jittered_clip_indices(n_total, rate_hz, DEFAULT_SAMPLING, 0.0)
    assert np.array_equal(found, clip_indices(n_total, rate_hz, DEFAULT_SAMPLING))


def test_clips_use_all_their_room() -> None:
    # Four shares of 100 frames, clips of 31: room for 69.
    assert jittered_clip_indices(400, 25, DEFAULT_SAMPLING, -0.5)[:, 0].tolist() == [0, 100, 200, 300]
    assert jittered_clip_indices(400, 25, DEFAULT_SAMPLING, 0.5)[:, -1].tolist() == [99, 199, 299, 399]
