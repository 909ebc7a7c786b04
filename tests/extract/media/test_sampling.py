import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmdf.extract.media.sampling import Sampling, clip_indices, uniform_indices, window_starts


@given(st.integers(1, 5000), st.integers(1, 64))
def test_uniform_sampling_is_uniform(n_total: int, n_wanted: int) -> None:
    found = uniform_indices(n_total, n_wanted)
    assert len(found) == min(n_total, n_wanted)
    assert (np.diff(found) > 0).all()
    # Every sample is the frame that is shown in the middle of its equal share: no crowding at the start.
    middles = (np.arange(len(found)) + 0.5) * n_total / len(found)
    assert (found <= middles).all()
    assert (middles <= found + 1).all()


def test_uniform_sampling_reaches_the_end() -> None:
    # A published loader computed its step as total // total and took the first 32 frames.
    assert uniform_indices(270, 32)[-1] > 260
    assert uniform_indices(33, 32).tolist() != list(range(32))


@given(st.integers(1, 3000), st.sampled_from([10.0, 23.976, 25.0, 29.97, 50.0, 60.0]))
def test_clips_fit_and_do_not_overlap(n_total: int, rate_hz: float) -> None:
    sampling = Sampling()
    clips = clip_indices(n_total, rate_hz, sampling)
    assert clips.shape[1] == sampling.clip_frames
    assert (len(clips) > 0) == (n_total >= sampling.clip_frames)
    if len(clips):
        assert clips.min() >= 0
        assert clips.max() < n_total
        assert (np.diff(clips.ravel()) > 0).all()
        assert len(np.unique(np.diff(clips, axis=1))) == 1


def test_clips_have_the_wanted_rate() -> None:
    assert np.diff(clip_indices(250, 25.0, Sampling())[0])[0] == 2
    assert np.diff(clip_indices(600, 60.0, Sampling())[0])[0] == 5


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 500))
def test_windows_lose_nothing(n_samples: int, window: int, hop: int) -> None:
    hop = min(hop, window)
    starts = window_starts(n_samples, window, hop)
    heard = np.zeros(n_samples, bool)
    for start in starts:
        heard[start : start + window] = True
        assert start + min(window, n_samples) <= n_samples
    assert heard.all()
    assert (np.diff(starts) > 0).all()
