"""Pictures of the face and of the mouth, cut from frames. numpy and OpenCV only; knows no detector.

Every function takes single frames too, so that a film need not lie in memory.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from mmdf.extract.faces.base import check_frame
from mmdf.extract.faces.track import FaceTrack

FACE_MARGIN = 1.3
FACE_SIZE_PX = 256
MOUTH_SIZE_PX = 96
# Eye line to mouth centre, in shares of the crop's side: the mouth then takes about half of its width.
_EYES_TO_MOUTH = 0.75
_MAX_OVERSAMPLING = 8


def face_crop(
    frame: np.ndarray, box: np.ndarray, size_px: int | None = FACE_SIZE_PX, margin: float = FACE_MARGIN
) -> np.ndarray:
    """A square about the centre of `box`, its side `margin` times the longer one of the box, (S, S, 3) uint8.

    Beyond the picture its edge is repeated. Shrinks by area, grows by cubic interpolation.

    Parameters
    ----------
    frame
        (H, W, 3) uint8.
    box
        (4,) x0, y0, x1, y1 in px.
    size_px
        S; None keeps the pixels as they are.

    Raises
    ------
    ValueError
        If the frame is of another shape, or the box is empty or not finite.
    """
    check_frame(frame)
    side = crop_side_px(box, margin)
    corner = np.round((box[:2] + box[2:] - side) / 2).astype(np.int64)
    square = _edge_repeated(frame, int(corner[0]), int(corner[1]), side)
    return _resized(square, size_px or side)


def face_crops(
    frames: Iterable[np.ndarray], track: FaceTrack, margin: float = FACE_MARGIN, size_px: int | None = FACE_SIZE_PX
) -> np.ndarray:
    """`face_crop` of each step of a track, (n, S, S, 3) uint8; one frame (H, W, 3) a step.

    `size_px` None takes the median side in the frames, so that most pixels are nearly kept.
    """
    size_px = size_px or int(np.median([crop_side_px(box, margin) for box in track.boxes]))
    return _stacked((face_crop(f, box, size_px, margin) for f, box in zip(frames, track.boxes, strict=True)), size_px)


def crop_side_px(box: np.ndarray, margin: float = FACE_MARGIN) -> int:
    """Side of the square that `face_crop` cuts, at least 2 px. Raises `ValueError` for an empty box."""
    side = margin * float((box[2:] - box[:2]).max())
    if box.shape != (4,) or not (np.isfinite(box).all() and (box[2:] > box[:2]).all() and margin > 0):
        raise ValueError(f"a box is x0 < x1 and y0 < y1 in px, the margin positive; these are {box}, {margin}")
    return max(2, round(side))


def mouth_crop(frame: np.ndarray, landmarks: np.ndarray, size_px: int = MOUTH_SIZE_PX) -> np.ndarray:
    """The mouth, upright and at one scale, (S, S, 3) uint8. Beyond the picture its edge is repeated.

    A similarity transform as `mouth_transform` gives it, sampled finer and averaged where the picture shrinks.

    Parameters
    ----------
    frame
        (H, W, 3) uint8.
    landmarks
        (5, 2) in px, in the order of `base.LANDMARKS`.
    """
    check_frame(frame)
    transform = mouth_transform(landmarks, size_px)
    shrink = 1 / np.hypot(transform[0, 0], transform[1, 0])
    finer = int(np.clip(np.ceil(shrink), 1, _MAX_OVERSAMPLING))
    matrix = transform * finer
    # OpenCV counts from the centre of the first pixel, the landmarks from its corner.
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    side = size_px * finer
    warped = cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _resized(warped, size_px)


def mouth_crops(frames: Iterable[np.ndarray], track: FaceTrack, size_px: int = MOUTH_SIZE_PX) -> np.ndarray:
    """`mouth_crop` of each step of a track, (n, S, S, 3) uint8; one frame a step. Smooth dense tracks first."""
    return _stacked((mouth_crop(f, p, size_px) for f, p in zip(frames, track.landmarks, strict=True)), size_px)


def mouth_transform(landmarks: np.ndarray, size_px: int = MOUTH_SIZE_PX) -> np.ndarray:
    """Similarity transform from frame to mouth crop, (2, 3): p -> T[:, :2] @ p + T[:, 2], in continuous px.

    The middle of the mouth's corners goes to the centre; the line from between the eyes to it becomes 0.75 of the side
    long, since unlike the distance of the eyes it stays when the head turns; the rotation makes the eyes level, with
    that line's direction as a second opinion, which steadies heads in profile.

    AV-HuBERT (Shi et al. 2022; `align_mouth.py`) fits 68-point eyes and nose to a mean face of 256 px and cuts 96 px
    about the mouth. With five points there is less to fit; the scale here gives about the same view: from below the
    eyes to the chin.

    Raises
    ------
    ValueError
        If the landmarks are not (5, 2) and finite.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
        raise ValueError(f"landmarks are (5, 2) places in px; these are {landmarks.shape}, or not finite")
    left_eye, right_eye, _, mouth_left, mouth_right = landmarks
    mouth = (mouth_left + mouth_right) / 2
    down = mouth - (left_eye + right_eye) / 2
    across = right_eye - left_eye + np.array([down[1], -down[0]])
    length = float(np.hypot(*across))
    cosine, sine = across / length if length > 0 else (1.0, 0.0)
    scale = _EYES_TO_MOUTH * size_px / max(float(np.hypot(*down)), 1.0)
    turn = scale * np.array([[cosine, sine], [-sine, cosine]])
    return np.concatenate([turn, (size_px / 2 - turn @ mouth)[:, None]], 1)


def _edge_repeated(frame: np.ndarray, x0: int, y0: int, side: int) -> np.ndarray:
    height, width = frame.shape[:2]
    if x0 >= 0 and y0 >= 0 and x0 + side <= width and y0 + side <= height:
        return frame[y0 : y0 + side, x0 : x0 + side]
    rows = np.clip(np.arange(y0, y0 + side), 0, height - 1)
    columns = np.clip(np.arange(x0, x0 + side), 0, width - 1)
    return frame[rows[:, None], columns]


def _resized(square: np.ndarray, size_px: int) -> np.ndarray:
    if len(square) == size_px:
        return np.ascontiguousarray(square)
    how = cv2.INTER_AREA if len(square) > size_px else cv2.INTER_CUBIC
    return cv2.resize(square, (size_px, size_px), interpolation=how)


def _stacked(crops: Iterator[np.ndarray], size_px: int) -> np.ndarray:
    found = list(crops)
    return np.stack(found) if found else np.zeros((0, size_px, size_px, 3), np.uint8)
