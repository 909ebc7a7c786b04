"""Crops of planted squares and points."""

import cv2
import numpy as np
import pytest

from mmdf.extract.faces.crop import crop_side_px, face_crop, face_crops, mouth_crop, mouth_crops, mouth_transform
from mmdf.extract.faces.track import FaceTrack

# Eyes 60 apart, their middle 72 above the middle of the mouth: scale 1 in a crop of 96 px.
UPRIGHT = np.array([[-30, -72], [30, -72], [0, -35], [-25, 0], [25, 0]], np.float64)


def noise(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def track_of(boxes: list[list[float]], landmarks: np.ndarray) -> FaceTrack:
    n = len(boxes)
    points = np.broadcast_to(landmarks, (n, 5, 2)).astype(np.float32)
    return FaceTrack(np.arange(n, dtype=np.float64), np.array(boxes, np.float32), np.ones(n, np.float32), points)


def test_native_pixels_are_kept() -> None:
    frame = noise()
    crop = face_crop(frame, np.array([50.0, 30.0, 90.0, 80.0]), None, margin=1.2)
    np.testing.assert_array_equal(crop, frame[25:85, 40:100])


def test_the_crop_is_a_square_about_the_centre() -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[60:120, 100:150] = (200, 100, 50)
    crop = face_crop(frame, np.array([100.0, 60.0, 150.0, 120.0]), 78, margin=1.3)
    inside = crop[..., 0] > 100
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (9, 69, 14, 64)
    assert crop[39, 39].tolist() == [200, 100, 50]


def test_sizes_shrink_by_area_and_grow() -> None:
    board = np.zeros((128, 128, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    box = np.array([0.0, 0.0, 128.0, 128.0])
    small = face_crop(board, box, 32, margin=1.0)
    assert small.shape == (32, 32, 3)
    assert abs(small.astype(int) - 128).max() <= 1, "a checkerboard must become grey, not moire"
    assert face_crop(board, box, 256, margin=1.0).shape == (256, 256, 3)


def test_the_edge_is_repeated() -> None:
    frame = noise()
    crop = face_crop(frame, np.array([-20.0, 90.0, 40.0, 150.0]), None, margin=1.0)
    assert crop.shape == (60, 60, 3)
    np.testing.assert_array_equal(crop[:30, 20:], frame[90:120, :40])
    np.testing.assert_array_equal(crop[:30, :20], np.repeat(frame[90:120, :1], 20, axis=1))
    np.testing.assert_array_equal(crop[30:, 20:], np.repeat(frame[-1:, :40], 30, axis=0))
    beyond = face_crop(frame, np.array([300.0, 300.0, 340.0, 340.0]), 16)
    assert (beyond == frame[-1, -1]).all()


def test_a_track_gives_crops_of_one_size() -> None:
    frames = [noise(seed=k) for k in range(3)]
    track = track_of([[10, 10, 40, 50], [20, 20, 80, 70], [0, 0, 50, 40]], UPRIGHT + [80, 110])
    found = face_crops(iter(frames), track, size_px=64)
    assert found.shape == (3, 64, 64, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[1], face_crop(frames[1], track.boxes[1], 64))
    # Sides 40, 60 and 50: the median stays as it is.
    native = face_crops(frames, track, margin=1.0, size_px=None)
    assert native.shape == (3, 50, 50, 3)
    np.testing.assert_array_equal(native[2], face_crop(frames[2], track.boxes[2], None, margin=1.0))
    with pytest.raises(ValueError, match="zip"):
        face_crops(frames[:2], track)


def test_impossible_boxes_are_refused() -> None:
    for box in ([10, 10, 10, 40], [40, 0, 10, 40], [0, 0, np.nan, 10]):
        with pytest.raises(ValueError, match="x0 < x1"):
            face_crop(noise(), np.array(box, np.float32))
    assert crop_side_px(np.array([0.0, 0.0, 0.1, 0.1])) == 2


def test_an_upright_mouth_at_scale_one_keeps_its_pixels() -> None:
    frame = noise(300, 300)
    crop = mouth_crop(frame, UPRIGHT + [150, 200])
    np.testing.assert_array_equal(crop, frame[152:248, 102:198])


@pytest.mark.parametrize("degrees", [-40, 0, 25, 170])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.7])
def test_eyes_become_level_and_the_mouth_central(degrees: float, scale: float) -> None:
    turn = np.deg2rad(degrees)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = UPRIGHT @ rotation.T + [320, 240]
    transform = mouth_transform(landmarks, 96)
    # The transform undoes the rotation and the scale.
    np.testing.assert_allclose(landmarks @ transform[:, :2].T + transform[:, 2], UPRIGHT + 48, atol=1e-6)
    frame = np.zeros((480, 640, 3), np.uint8)
    for channel, point in enumerate(landmarks[3:]):
        cv2.circle(
            frame,
            tuple(int(v) for v in point),
            max(2, round(4 * scale)),
            [255 * (channel == k) for k in range(3)],
            -1,
        )
    crop = mouth_crop(frame, landmarks).astype(float)
    for channel, expected in enumerate(UPRIGHT[3:] + 48):
        weight = crop[..., channel] / crop[..., channel].sum()
        centre = [(weight.sum(0) * (np.arange(96) + 0.5)).sum(), (weight.sum(1) * (np.arange(96) + 0.5)).sum()]
        # A disc lies up to half a pixel of the frame beside its point.
        np.testing.assert_allclose(centre, expected, atol=max(0.5, 0.9 / scale))


def test_a_turned_head_keeps_its_scale() -> None:
    profile = UPRIGHT * [0.3, 1.0]
    np.testing.assert_allclose(mouth_transform(profile + 200)[:, :2], np.eye(2), atol=1e-12)


def test_large_mouths_are_averaged_not_skipped() -> None:
    board = np.zeros((800, 800, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    crop = mouth_crop(board, UPRIGHT * 4 + 400)
    assert abs(crop.astype(int) - 128).max() <= 2


def test_mouths_of_a_track() -> None:
    frames = [noise(300, 300, seed=k) for k in range(2)]
    track = track_of([[0, 0, 9, 9]] * 2, UPRIGHT + [150, 200])
    found = mouth_crops(iter(frames), track, size_px=48)
    assert found.shape == (2, 48, 48, 3)
    np.testing.assert_array_equal(found[1], mouth_crop(frames[1], track.landmarks[1], 48))


def test_impossible_landmarks_are_refused_and_degenerate_ones_survive() -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        mouth_transform(UPRIGHT[:4])
    with pytest.raises(ValueError, match="finite"):
        mouth_transform(UPRIGHT * np.nan)
    assert mouth_crop(noise(), np.full((5, 2), 60.0)).shape == (96, 96, 3)
