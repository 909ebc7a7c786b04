from dataclasses import replace
from pathlib import Path

import decord
import numpy as np
import pytest

from mmdf.cache.errors import MediaError
from mmdf.extract.media.decode import DecodeRequest, decode, probe
from mmdf.extract.media.limits import DEFAULT_LIMITS, Limits
from mmdf.extract.media.sampling import Sampling, uniform_indices
from mmdf.extract.media.video import Frames, load_film, select

LIMITS = DEFAULT_LIMITS


def load_frames(path: Path, *views: str, limits: Limits = LIMITS) -> Frames:
    film, (selection,) = load_film(path, lambda n, hz: [select(n, hz, frozenset(views), Sampling())], limits)
    return film.frames(selection)


def level(number: int) -> int:
    return 20 + (number * 53) % 211


@pytest.mark.parametrize("n_frames", [1, 2, 15, 16, 17, 31, 33, 50, 101])
def test_the_frames_asked_for_are_the_frames_that_come(make_video, n_frames: int) -> None:
    frames = load_frames(make_video(n_frames=n_frames, sound=False), "frame")
    wanted = uniform_indices(n_frames, 16)
    grey = frames.pixels[frames.frame_rows][:, -8:, -8:].mean((1, 2, 3))
    assert np.abs(grey - [level(i) for i in wanted]).max() < 4
    assert frames.times_s[frames.frame_rows] == pytest.approx(wanted / 25, abs=1e-6)
    assert frames.indices[frames.frame_rows].tolist() == wanted.tolist()


def test_frames_and_clips_share_one_pass(make_video) -> None:
    path = make_video(n_frames=90)
    both = load_frames(path, "frame", "clip")
    frames, clips = (
        load_frames(path, "frame"),
        load_frames(path, "clip"),
    )
    assert np.array_equal(both.pixels[both.frame_rows], frames.pixels[frames.frame_rows])
    assert np.array_equal(both.pixels[both.clip_rows], clips.pixels[clips.clip_rows])
    assert len(both.pixels) == len(np.unique(both.times_s))


def test_reading_forward_equals_random_access(make_video) -> None:
    path = make_video(n_frames=60)
    frames = load_frames(path, "frame")
    expected = decord.VideoReader(str(path), num_threads=1).get_batch(uniform_indices(60, 16).tolist()).asnumpy()
    assert np.array_equal(frames.pixels[frames.frame_rows], expected)


def request(path: Path, modality: str = "video", views: tuple = ("frame", "clip", "sound")) -> DecodeRequest:
    return DecodeRequest(path, modality, frozenset(views))


def test_one_decode_gives_every_view(make_video) -> None:
    found = decode(request(make_video(n_frames=50)))
    assert found.error is None
    assert found.absent == ()
    assert found.frames is not None
    assert found.frames.clip_rows.shape == (1, 16)
    assert found.sound is not None
    assert len(found.sound.samples) / found.sound.rate_hz == pytest.approx(2.0, abs=0.15)


def test_a_silent_film_is_absence_not_error(make_video) -> None:
    found = decode(request(make_video(sound=False)))
    assert found.error is None
    assert found.absent == (("sound", "the video has no sound"),)
    assert found.frames is not None


def test_a_short_video_has_no_clip(make_video) -> None:
    found = decode(request(make_video(n_frames=9)))
    assert found.absent == (("clip", "the video is shorter than 16 frames"),)


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    error = decode(request(tmp_path / "a.mp4")).error
    assert error is not None
    assert "empty (0 bytes)" in error.message


def test_text_renamed_to_mp4(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video " * 100)
    error = decode(request(tmp_path / "a.mp4")).error
    assert error is not None
    assert "not a video that can be read, whatever its name says" in error.message


def test_a_missing_file(tmp_path: Path) -> None:
    error = decode(request(tmp_path / "gone.mp4")).error
    assert error is not None
    assert "not there" in error.message


def test_a_truncated_video(make_video) -> None:
    path = make_video(n_frames=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert decode(request(path)).error is not None


def test_sound_only_given_as_video(make_sound) -> None:
    error = decode(request(make_sound())).error
    assert error is not None
    assert "it has no picture" in error.message


def test_absurd_sizes_are_refused_from_the_header(make_video) -> None:
    few_pixels, short = replace(LIMITS, max_pixels=1000), replace(LIMITS, max_duration_s=1.0)
    for limits, reason in ((few_pixels, "64x48 px"), (short, "at most 1 s")):
        error = decode(DecodeRequest(make_video(), "video", frozenset({"frame"}), limits=limits)).error
        assert error is not None
        assert reason in error.message
    # A header may lie; the frames are counted too.
    with pytest.raises(MediaError, match="at most 1 s"):
        load_frames(make_video(), "frame", limits=short)


def test_probing_reads_headers(make_video, make_sound, make_image) -> None:
    assert probe(make_video(n_frames=50), "video").duration_s == pytest.approx(2.0, abs=0.15)
    assert not probe(make_video("silent.mp4", sound=False), "video").has_sound
    assert probe(make_sound(duration_s=1.5), "audio").duration_s == pytest.approx(1.5)
    assert probe(make_image(), "image").has_picture
