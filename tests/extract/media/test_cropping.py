"""Views of faces and mouths, with a detector that takes a bright square for a face: where it is, is known."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmdf.extract.faces.base import Face
from mmdf.extract.media import cropping
from mmdf.extract.media.decode import Decoded, DecodeRequest, decode
from mmdf.extract.media.sampling import Sampling

SIDE = 40


class SquareDetector:
    def __init__(self) -> None:
        self.spec = {"detector": "square"}
        self.n_frames = 0

    def detect(self, frame: np.ndarray) -> list[Face]:
        self.n_frames += 1
        rows, columns = np.nonzero(frame[..., 0] > 180)
        if len(rows) < 100:
            return []
        x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        width, height = x1 - x0, y1 - y0
        points = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.8], [0.65, 0.8]])
        landmarks = np.array([x0, y0]) + points * [width, height]
        return [Face(np.array([x0, y0, x1, y1], np.float32), 0.99, landmarks.astype(np.float32))]


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> SquareDetector:
    square = SquareDetector()
    monkeypatch.setattr(cropping, "detector", lambda name: square)
    return square


@pytest.fixture
def make_film(tmp_path: Path) -> Callable[..., Path]:
    """A grey film in which a bright square moves from left to right, or none does."""

    def make(n_frames: int = 50, rate_hz: int = 25, face: bool = True, size: tuple[int, int] = (320, 180)) -> Path:
        path = tmp_path / "film.mp4"
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=rate_hz, options={"crf": "10"})
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            for number in range(n_frames):
                pixels = np.full((size[1], size[0], 3), 90, np.uint8)
                if face:
                    x = left(number)
                    pixels[60 : 60 + SIDE, x : x + SIDE] = 230
                container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(video.encode())
        return path

    return make


def left(number: int) -> int:
    return 40 + 3 * number


def look(path: Path, *views: str, sampling: Sampling | None = None) -> Decoded:
    modality = "image" if path.suffix == ".png" else "video"
    found = decode(DecodeRequest(path, modality, frozenset(views), sampling or Sampling()))
    assert found.error is None
    return found


def test_crops_follow_the_face(make_film) -> None:
    found = look(make_film(), "face")
    faces = found.faces
    assert faces is not None
    assert faces.pixels.shape == (16, 256, 256, 3)
    bright = (faces.pixels[:, :, :, 0] > 180).mean((1, 2))
    assert bright == pytest.approx(1 / 1.3**2, abs=0.06)
    middle = faces.pixels[:, 128, 128, 0]
    assert (middle > 200).all()


def test_geometry_stands_beside_every_frame(make_film) -> None:
    found = look(make_film(), "face")
    assert found.geometry is not None
    assert found.faces is not None
    numbers = found.faces.indices[found.faces.frame_rows]
    assert found.geometry.shape == (16, 15)
    assert found.geometry[:, 0] * 320 == pytest.approx([left(n) for n in numbers], abs=3)
    assert found.geometry[:, 1] * 180 == pytest.approx(60, abs=3)
    assert (found.geometry[:, 4] > 0.9).all()


def test_faces_are_looked_for_once_for_all_views(make_film, detector: SquareDetector) -> None:
    path = make_film(n_frames=100)
    look(path, "frame", "face", "face-clip", "mouth")
    # 16 single frames, every fourth of 3 clips of 16, every fifth of 100; some of them are the same.
    assert 30 <= detector.n_frames <= 16 + 12 + 20


def test_clips_of_faces_have_the_frames_of_clips(make_film) -> None:
    found = look(make_film(), "clip", "face-clip")
    assert found.frames is not None
    assert found.faces is not None
    assert np.array_equal(found.frames.clip_rows, found.faces.clip_rows)
    assert found.faces.clip_rows.shape == (1, 16)
    assert (found.faces.pixels[:, 128, 128, 0] > 200).all()


def test_mouths_come_25_times_a_second_whatever_the_film_s_rate(make_film) -> None:
    mouths = look(make_film(n_frames=60, rate_hz=50), "mouth").mouths
    assert mouths is not None
    assert mouths.pixels.shape == (30, 96, 96, 3)
    assert np.diff(mouths.times_s) == pytest.approx(0.04, abs=1e-6)
    slow = look(make_film(n_frames=20, rate_hz=10), "mouth").mouths
    assert slow is not None
    assert slow.indices.tolist() == list(range(20))


def test_long_films_give_mouths_from_their_middle(make_film) -> None:
    mouths = look(make_film(n_frames=75), "mouth", sampling=Sampling(mouth_max_s=1.0)).mouths
    assert mouths is not None
    assert mouths.indices.tolist() == list(range(25, 50))


def test_mouths_of_large_films_are_cut_from_small_frames(make_film) -> None:
    large = look(make_film(n_frames=10, size=(1280, 720)), "mouth").mouths
    assert large is not None
    # The mouth of the planted face lies within the bright square.
    assert (large.pixels[:, 48, 48, 0] > 200).all()


@pytest.mark.parametrize("view", ["face", "mouth", "face-clip"])
def test_no_face_is_a_status(make_film, view: str) -> None:
    found = look(make_film(face=False), view)
    assert found.absent == ((view, "no face was found in it"),)
    assert found.faces is None
    assert found.mouths is None


def test_the_whole_frame_may_stand_in_for_the_face(make_film) -> None:
    found = look(make_film(face=False), "face", sampling=Sampling(no_face="frame"))
    assert found.absent == ()
    assert found.faces is not None
    assert found.geometry is not None
    assert found.faces.pixels.shape == (16, 180, 320, 3)
    assert (found.geometry == 0).all()


def test_an_image_has_a_face_too(tmp_path: Path) -> None:
    pixels = np.full((100, 100, 3), 60, np.uint8)
    pixels[20:60, 30:70] = 220
    Image.fromarray(pixels).save(tmp_path / "portrait.png")
    found = look(tmp_path / "portrait.png", "face")
    assert found.faces is not None
    assert found.geometry is not None
    assert found.faces.pixels.shape == (1, 256, 256, 3)
    assert found.geometry[0, :4] == pytest.approx([0.3, 0.2, 0.7, 0.6])
    Image.fromarray(np.full((50, 50, 3), 60, np.uint8)).save(tmp_path / "wall.png")
    assert look(tmp_path / "wall.png", "face").absent == (("face", "no face was found in it"),)


def test_a_film_too_short_for_clips_says_so(make_film) -> None:
    found = look(make_film(n_frames=9), "face", "face-clip")
    assert found.absent == (("face-clip", "the video is shorter than 16 frames"),)
    assert found.faces is not None
