"""The views of faces and mouths, cut from decoded frames in the decode worker. Imports torch, for the detector.

Faces are looked for once a file: in its single frames, in every fourth frame of a clip, five times a second where
mouths are wanted. One face is followed through the file, and every crop is of that one.
"""

from collections.abc import Mapping, Set
from functools import cache
from typing import Any

import numpy as np
import torch

from mmdf.extract.faces.base import Detector, Face
from mmdf.extract.faces.crop import FACE_SIZE_PX, MOUTH_SIZE_PX, face_crop, mouth_crop
from mmdf.extract.faces.track import FaceTrack, geometry, main_track, resample, smooth
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sampling import FACE_DETECTORS, Sampling
from mmdf.extract.media.video import Film, Frames, Selection

# At 12.5 and 25 frames a second faces move little from one to the next.
_EVERY_CLIP_FRAME, _EVERY_MOUTH_FRAME = 4, 5
_SMOOTH_STEPS = 5


@cache
def detector(name: str) -> Detector:
    """The face detector of this process. Raises `WeightsError` if its weights are not here."""
    return FACE_DETECTORS.get(name)()


def find_faces(picture: np.ndarray, name: str = "mtcnn") -> list[Face]:
    """Faces in (H, W, 3) uint8, on one thread: more cost more than they bring, on pictures as small as these."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return detector(name).detect(picture)
    finally:
        torch.set_num_threads(n_threads)


@cache
def faces_spec(view: str, name: str) -> dict[str, Any]:
    """What decides where a crop is and what it shows, for the spec of a feature."""
    if view == "mouth":
        found = {"size_px": MOUTH_SIZE_PX, "every": _EVERY_MOUTH_FRAME, "smooth_steps": _SMOOTH_STEPS}
        return detector(name).spec | found
    return detector(name).spec | {"size_px": FACE_SIZE_PX}


def cut_image(frames: Frames, sampling: Sampling) -> Decoded:
    """The face of an image: its view `face`, or a reason why there is none."""
    picture = frames.pixels[0]
    track = main_track([find_faces(picture, sampling.face_detector)], np.zeros(1))
    return _faces(frames, track, np.zeros(1), {"face"}, sampling)


def cut_video(
    frames: Frames | None, film: Film, own: Selection, faces_by: Selection, views: Set[str], sampling: Sampling
) -> Decoded:
    """The views `face`, `face-clip` and `mouth` of a video, as far as `views` asks for them.

    Parameters
    ----------
    frames
        The single frames and clips of `own`; None if it has none.
    faces_by
        The selection in whose frames faces are looked for.
    """
    track = _track(film, faces_by, sampling.face_detector)
    found = Decoded()
    if frames is not None:
        found = _faces(frames, track, frames.indices / film.rate_hz, views & {"face", "face-clip"}, sampling)
    if "mouth" not in views or not len(own.mouths):
        return found
    if track is None:
        return Decoded(faces=found.faces, geometry=found.geometry, absent=(*found.absent, ("mouth", _NO_FACE)))
    return Decoded(faces=found.faces, geometry=found.geometry, absent=found.absent, mouths=_mouths(film, own, track))


_NO_FACE = "no face was found in it"


def _track(film: Film, selection: Selection, name: str) -> FaceTrack | None:
    """The main face of a film, in pixels of its full size, by seconds since its first frame."""
    whole = {*selection.frames.tolist(), *selection.clips[:, ::_EVERY_CLIP_FRAME].ravel().tolist()}
    small = set(selection.mouths[::_EVERY_MOUTH_FRAME].tolist()) - whole
    indices = sorted(whole | small)
    found = [_detect(film, index, name) for index in indices]
    return main_track(found, np.array(indices) / film.rate_hz) if indices else None


def _detect(film: Film, index: int, name: str) -> list[Face]:
    if index in film.pictures:
        return find_faces(film.pictures[index], name)
    scale = film.size_px[0] / film.small[index].shape[1]
    faces = find_faces(film.small[index], name)
    return [Face(face.box * scale, face.confidence, face.landmarks * scale) for face in faces]


def _faces(
    frames: Frames, track: FaceTrack | None, times_s: np.ndarray, views: Set[str], sampling: Sampling
) -> Decoded:
    if track is None:
        if sampling.no_face == "skip":
            return Decoded(absent=tuple((view, _NO_FACE) for view in sorted(views)))
        # The whole frame stands in for the face; a confidence of 0 tells them apart.
        return Decoded(faces=frames, geometry=np.zeros((len(frames.frame_rows), 15), np.float32))
    at = resample(track, times_s)
    pixels = np.stack(
        [face_crop(f, box, FACE_SIZE_PX, sampling.face_margin) for f, box in zip(frames.pixels, at.boxes, strict=True)]
    )
    height, width = frames.pixels.shape[1:3]
    where = geometry(at, (width, height))[frames.frame_rows]
    return Decoded(
        faces=Frames(pixels, frames.times_s, frames.frame_rows, frames.clip_rows, frames.indices), geometry=where
    )


def _mouths(film: Film, own: Selection, track: FaceTrack) -> Frames:
    indices = own.mouths
    at = smooth(resample(track, indices / film.rate_hz), _SMOOTH_STEPS)
    pixels = np.stack(
        [_mouth(film.small, int(i), film.size_px, points) for i, points in zip(indices, at.landmarks, strict=True)]
    )
    times_s = np.array([film.times_s[i] for i in indices.tolist()])
    return Frames(pixels, times_s, np.arange(len(indices)), np.zeros((0, 1), np.int64), indices)


def _mouth(small: Mapping[int, np.ndarray], index: int, size_px: tuple[int, int], landmarks: np.ndarray) -> np.ndarray:
    frame = small[index]
    return mouth_crop(frame, landmarks * (frame.shape[1] / size_px[0]), MOUTH_SIZE_PX)
