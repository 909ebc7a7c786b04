"""The benchmark's media are what they say, the same every time, and stay for the next run."""

from pathlib import Path

import numpy as np
import pytest

from mmdf.extract.bench import media
from mmdf.extract.media.image import load_image
from mmdf.extract.media.limits import DEFAULT_LIMITS
from mmdf.extract.media.sound import load_sound
from mmdf.extract.media.video import video_header


def test_images_are_distinct_and_equal_in_every_run(tmp_path: Path) -> None:
    first, second = media.images(tmp_path / "a", 3, 64), media.images(tmp_path / "b", 3, 64)
    contents = [first.file(item).read_bytes() for item in first.items()]
    assert len(set(contents)) == 3
    assert contents == [second.file(item).read_bytes() for item in second.items()]
    pixels = load_image(first.file(next(first.items())), DEFAULT_LIMITS)
    assert pixels.shape == (64, 64, 3)
    assert pixels.std() > 20
    assert media.bytes_of(first) == sum(len(content) for content in contents)


def test_sounds_last_from_the_shortest_to_the_longest(tmp_path: Path) -> None:
    manifest = media.sounds(tmp_path, 3, 0.5, 1.5)
    sounds = [load_sound(manifest.file(item), DEFAULT_LIMITS) for item in manifest.items()]
    assert [len(sound.samples) / 16000 for sound in sounds] == pytest.approx([0.5, 1.0, 1.5])
    assert {sound.rate_hz for sound in sounds} == {16000}
    assert [item.duration_s for item in manifest.items()] == [0.5, 1.0, 1.5]


def test_films_move(tmp_path: Path) -> None:
    import decord

    manifest = media.films(tmp_path, 1, 0.5, 160, 120)
    path = manifest.file(next(manifest.items()))
    header = video_header(path, DEFAULT_LIMITS)
    assert (header.width_px, header.height_px, header.rate_hz, header.has_sound) == (160, 120, 30.0, False)
    reader = decord.VideoReader(str(path))
    assert len(reader) == 15
    first, last = reader[0].asnumpy().astype(int), reader[14].asnumpy().astype(int)
    assert np.abs(first - last).mean() > 5


def test_what_lies_there_is_kept_and_the_rest_made(tmp_path: Path) -> None:
    manifest = media.images(tmp_path, 2, 32)
    kept = manifest.file(next(manifest.items()))
    before = kept.stat().st_mtime_ns
    assert len(media.images(tmp_path, 4, 32)) == 4
    assert kept.stat().st_mtime_ns == before
    assert len(list(kept.parent.iterdir())) == 4
