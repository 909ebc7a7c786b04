import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdf.cache.errors import UsageError
from mmdf.extract.media.sampling import (
    Sampling,
    clip_indices,
    rate_indices,
    step_times,
    uniform_indices,
    window_starts,
)


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


@given(st.integers(1, 3000), st.sampled_from([10.0, 23.976, 25.0, 29.97, 60.0]), st.sampled_from([1.0, 5.0, 25.0]))
def test_a_clock_of_frames_keeps_time(n_total: int, rate_hz: float, wanted_hz: float) -> None:
    found = rate_indices(n_total, rate_hz, wanted_hz)
    assert found[0] >= 0
    assert found[-1] < n_total
    assert (np.diff(found) > 0).all()
    if wanted_hz < rate_hz:
        assert len(found) == max(1, round(n_total / rate_hz * wanted_hz))
        middles_s = (np.arange(len(found)) + 0.5) / wanted_hz
        assert np.abs(found[:-1] / rate_hz - middles_s[:-1]).max(initial=0) <= 1 / rate_hz + 1e-6
    else:
        # A film slower than the clock gives each of its frames at most once.
        assert len(found) <= n_total


def test_a_clock_may_be_kept_to_the_middle_of_a_film() -> None:
    assert rate_indices(750, 25.0, 5.0, max_s=4.0)[[0, -1]].tolist() == [327, 422]


@given(st.integers(1_600, 400_000), st.integers(1, 20))
def test_steps_of_overlapping_windows_cover_all_of_a_sound_once(n_samples: int, n_steps: int) -> None:
    window, hop = 64_000, 32_000
    starts = window_starts(n_samples, window, hop)
    length = min(window, n_samples)
    begins, pick = step_times(starts, length, n_steps)
    step = length / n_steps
    assert (np.diff(begins) > 0).all()
    assert (np.diff(pick) > 0).all()
    assert begins[0] == 0
    assert begins[-1] + step >= n_samples - step
    # The last window ends with the sound, off the grid of the others: one step there may be up to twice as long.
    assert np.diff(begins).max(initial=0) <= 2 * step + 1
    assert len(pick) <= len(starts) * n_steps


def test_a_policy_for_pictures_without_a_face_is_one_of_two() -> None:
    with pytest.raises(UsageError, match="skip or frame, not 'drop'"):
        Sampling(no_face="drop")


def test_what_is_not_asked_for_is_not_in_a_spec() -> None:
    assert Sampling().of_view("frame") == {"frames": 16}
    assert Sampling(frame_rate_hz=2.0).of_view("frame") == {"frame_rate_hz": 2.0}
    assert Sampling().of_view("speech") == {"window_s": 4.0, "window_hop_s": 2.0}
    assert Sampling(steps_hz=5.0).of_view("speech")["steps_hz"] == 5.0
