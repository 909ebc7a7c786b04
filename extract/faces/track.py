"""One main face through a clip: links detections, fills gaps, smooths. numpy only; knows no detector and no pixels.

Frames may be dense or far apart. Who a face belongs to is never looked at: after a cut to another person who sits in
the same place the track goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmdf.extract.faces.base import Face

_LINK_IOU = 0.3
# How far a face may move between two detections, in its own sizes: so much at once, so much more a second, at most.
_REACH, _REACH_PER_S, _MAX_REACH = 1.0, 1.0, 3.0
_MIN_SIZE_RATIO = 0.5
GEOMETRY_DIM = 15


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """The main face at each of n times.

    Attributes
    ----------
    times_s
        (n,) float64, ascending.
    boxes
        (n, 4) float32: x0, y0, x1, y1 in px.
    confidences
        (n,) float32; 0 where nothing was detected and the rest is interpolated or held.
    landmarks
        (n, 5, 2) float32 in px.
    """

    times_s: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray
    landmarks: np.ndarray


def main_track(detections: Sequence[Sequence[Face]], times_s: np.ndarray) -> FaceTrack | None:
    """The face that fills most of the clip: the track with the largest sum of area times confidence.

    Parameters
    ----------
    detections
        The faces of each frame.
    times_s
        (n,) when each frame is shown, ascending.

    Returns
    -------
    FaceTrack or None
        One step a frame; None if no frame has a face. Steps between detections are linear in time, those before the
        first and after the last hold it; both have confidence 0.

    Raises
    ------
    ValueError
        If the two lengths differ or times do not ascend.
    """
    times_s = _checked_times(times_s)
    if len(times_s) != len(detections):
        raise ValueError(f"{len(detections)} frames of detections need as many times; {len(times_s)} came")
    tracks = link(detections, times_s)
    if not tracks:
        return None
    best = max(tracks, key=lambda track: sum(_area(face) * face.confidence for _, face in track))
    rows = [row for row, _ in best]
    found = FaceTrack(
        times_s[rows],
        np.array([face.box for _, face in best], np.float32),
        np.array([face.confidence for _, face in best], np.float32),
        np.array([face.landmarks for _, face in best], np.float32),
    )
    return resample(found, times_s)


def link(detections: Sequence[Sequence[Face]], times_s: np.ndarray) -> list[list[tuple[int, Face]]]:
    """Tracks as lists of (frame, face), in the order of their beginnings.

    Frame by frame, best pair first: pairs of IoU 0.3 and more, the largest first; then pairs of like size (one at most
    twice the other's side), the nearest first, within one face size and one more for each second gone by, up to three.
    A face that is missed for a while may be found again.
    """
    tracks: list[list[tuple[int, Face]]] = []
    for row, faces in enumerate(detections):
        pairs = []
        for number, track in enumerate(tracks):
            last_row, last = track[-1]
            gap_s = float(times_s[row] - times_s[last_row])
            pairs += [(_cost(last, face, gap_s), number, index) for index, face in enumerate(faces)]
        taken_tracks, taken_faces = set(), set()
        for cost, number, index in sorted(pairs):
            if cost < np.inf and number not in taken_tracks and index not in taken_faces:
                tracks[number].append((row, faces[index]))
                taken_tracks.add(number)
                taken_faces.add(index)
        tracks += [[(row, face)] for index, face in enumerate(faces) if index not in taken_faces]
    return tracks


def resample(track: FaceTrack, times_s: np.ndarray) -> FaceTrack:
    """The track at other times (m,), linear in between and held at the ends.

    The confidence stays where a time is one of the track's own, and is 0 elsewhere.
    """
    times_s = _checked_times(times_s)
    values = np.concatenate([track.boxes, track.landmarks.reshape(-1, 10)], 1)
    between = np.stack([np.interp(times_s, track.times_s, column) for column in values.T], 1).astype(np.float32)
    place = np.minimum(np.searchsorted(track.times_s, times_s), len(track.times_s) - 1)
    confidences = np.where(track.times_s[place] == times_s, track.confidences[place], np.float32(0))
    return FaceTrack(times_s, between[:, :4], confidences, between[:, 4:].reshape(-1, 5, 2))


def smooth(track: FaceTrack, steps: int = 5) -> FaceTrack:
    """Moving average of boxes and landmarks over `steps` steps, for dense tracks.

    Windows are centred and shrink towards the ends, so that steady motion stays as it is; none reaches across a jump
    of more than half a face between neighbours. Five steps suit 25 Hz: on talking heads the mouth then jitters four
    times less. At 5 Hz they would span a second and lag behind the head, so go to denser times first (`resample`).
    AV-HuBERT's preparation averages 12 frames at 25 Hz, for the alignment only.

    Raises
    ------
    ValueError
        If `steps` is not odd and positive.
    """
    if steps < 1 or steps % 2 == 0:
        raise ValueError(f"steps must be odd and positive, not {steps}")
    values = np.concatenate([track.boxes, track.landmarks.reshape(-1, 10)], 1).astype(np.float64)
    centres = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
    sides = (track.boxes[:, 2:] - track.boxes[:, :2]).max(1)
    jumps = np.linalg.norm(np.diff(centres, axis=0), axis=1) > 0.5 * np.minimum(sides[1:], sides[:-1])
    edges = [0, *(np.flatnonzero(jumps) + 1).tolist(), len(values)]
    averaged = np.empty_like(values)
    for begin, end in pairwise(edges):
        for row in range(begin, end):
            reach = min(steps // 2, row - begin, end - 1 - row)
            averaged[row] = values[row - reach : row + reach + 1].mean(0)
    averaged = averaged.astype(np.float32)
    return FaceTrack(track.times_s, averaged[:, :4], track.confidences, averaged[:, 4:].reshape(-1, 5, 2))


def geometry(track: FaceTrack, frame_size: tuple[int, int]) -> np.ndarray:
    """Where the face is, to be kept beside its embeddings, (n, 15) float32.

    Box x0, y0, x1, y1 (4), confidence (1), landmarks x, y in their order (10). Places are shares of the frame's width
    and height; they leave [0, 1] where the face leaves the frame.

    Parameters
    ----------
    frame_size
        Width and height in px.
    """
    size = np.array(frame_size, np.float32)
    if size.shape != (2,) or not (size > 0).all():
        raise ValueError(f"a frame's size is its width and height in px, not {frame_size}")
    boxes = track.boxes / np.tile(size, 2)
    landmarks = (track.landmarks / size).reshape(-1, 10)
    return np.concatenate([boxes, track.confidences[:, None], landmarks], 1, dtype=np.float32)


def _cost(before: Face, after: Face, gap_s: float) -> float:
    """Lower is likelier; overlapping pairs (below 0) come before distant ones; infinite if it cannot be one face."""
    overlap = iou(before.box, after.box)
    if overlap >= _LINK_IOU:
        return -overlap
    sizes = np.sqrt([_area(before), _area(after)])
    if sizes.min() < _MIN_SIZE_RATIO * sizes.max():
        return np.inf
    shift = np.linalg.norm(_centre(after) - _centre(before)) / sizes.mean()
    return float(shift) if shift <= min(_REACH + _REACH_PER_S * gap_s, _MAX_REACH) else np.inf


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes (4,)."""
    shared = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared))


def _centre(face: Face) -> np.ndarray:
    return (face.box[:2] + face.box[2:]) / 2


def _area(face: Face) -> float:
    return float(np.clip(face.box[2:] - face.box[:2], 0, None).prod())


def _checked_times(times_s: np.ndarray) -> np.ndarray:
    times_s = np.asarray(times_s, np.float64)
    if times_s.ndim != 1 or (np.diff(times_s) < 0).any():
        raise ValueError("times must be one row of ascending seconds")
    return times_s
