"""Real portraits and talking heads, where the shared folder is present."""

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdf.extract.faces.detect import FaceDetector
from mmdf.extract.faces.track import main_track
from mmdf.extract.media.image import load_image
from mmdf.extract.media.limits import DEFAULT_LIMITS

decord = pytest.importorskip("decord")
SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = [pytest.mark.shared, pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data here")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a decode worker; on a busy machine more threads are ten times slower."""
    before, before_cv2 = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(before_cv2)


def rows(folder: str, step: int) -> list[dict[str, str]]:
    with (SHARED / folder / "meta.csv").open() as file:
        return list(csv.DictReader(file))[::step]


def test_a_portrait_has_a_face() -> None:
    detector = FaceDetector()
    found = [detector.detect(load_image(SHARED / "faces" / row["path"], DEFAULT_LIMITS)) for row in rows("faces", 15)]
    # 597 of the whole 600; another order of flattening or of colours gives 0.92 and less.
    assert np.mean([len(faces) > 0 for faces in found]) > 0.95
    assert np.mean([len(faces) > 1 for faces in found]) < 0.1
    assert np.mean([faces[0].confidence for faces in found if faces]) > 0.98


def test_a_talking_head_has_its_mouth_in_its_face() -> None:
    detector = FaceDetector()
    grid = [row for row in rows("video", 1) if "GRID" in row["identity"]][::3]
    assert len(grid) >= 3
    for row in grid:
        reader = decord.VideoReader(str(SHARED / "video" / row["path"]), num_threads=1)
        indices = np.linspace(0, len(reader) - 1, 5).astype(int).tolist()
        frames = [reader[i].asnumpy() for i in indices]
        track = main_track(detector.detect_many(frames), np.array(indices) / 25)
        assert track is not None, row["path"]
        assert (track.confidences > 0.8).all(), row["path"]
        left_eye, right_eye, nose, mouth_left, mouth_right = track.landmarks.transpose(1, 0, 2)
        mouth = (mouth_left + mouth_right) / 2
        assert ((mouth > track.boxes[:, :2]) & (mouth < track.boxes[:, 2:])).all(), row["path"]
        assert (left_eye[:, 0] < right_eye[:, 0]).all()
        assert ((left_eye[:, 1] < nose[:, 1]) & (nose[:, 1] < mouth[:, 1])).all()
