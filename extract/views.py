"""From decoded arrays to what backbones look at, on the device: pictures by view, and sound at 16 kHz.

Raw pixels travel to the device as uint8, once for all backbones; resampling runs once for all speech features.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torchaudio.functional

from mmdf.extract.backbones.cards import VIEWS
from mmdf.extract.media.decode import Decoded
from mmdf.extract.media.sound import Sound
from mmdf.extract.media.video import Frames

SOUND_RATE_HZ = 16_000


@dataclass(frozen=True)
class Shots:
    """The pictures of one view.

    Attributes
    ----------
    pixels
        (n, 3, H, W) uint8, or (c, clip_frames, 3, H, W) for views of clips.
    times_s, indices
        (n,) or (c, clip_frames): when each frame is shown, float64, and its number in the file, int64.
    """

    pixels: torch.Tensor
    times_s: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Voice:
    """Sound for backbones.

    Attributes
    ----------
    samples
        (T,) float32 at 16 kHz.
    start_s
        When it begins, on the clock of the picture.
    time_scale
        Seconds of the file that one second of `samples` stands for.
    first
        Number of the first sample, counted at 16 kHz from the beginning of the file's sound.
    """

    samples: torch.Tensor
    start_s: float = 0.0
    time_scale: float = 1.0
    first: int = 0

    def times_s(self, starts: np.ndarray) -> np.ndarray:
        """When the samples numbered `starts` are heard in the file, (n,) float64."""
        return self.start_s + starts.astype(np.float64) / SOUND_RATE_HZ * self.time_scale


@dataclass(frozen=True)
class Views:
    """One item, decoded, on the device.

    Attributes
    ----------
    shots
        By the view's name; what was not decoded is not in here.
    voices
        `sound`, and `trimmed` without the silence at its ends.
    geometry
        (n, 15) float32 and on the CPU: where the face is in each of the frames of the view `face`.
    made
        What was made of the pictures so far, so that backbones with the same recipe share it.
    """

    shots: Mapping[str, Shots] = field(default_factory=dict)
    voices: Mapping[str, Voice] = field(default_factory=dict)
    geometry: torch.Tensor | None = None
    made: dict[Hashable, torch.Tensor] = field(default_factory=dict)

    def pictures(self, view: str) -> Shots:
        """The pictures of `view`, which must have been decoded."""
        if view not in self.shots:
            raise ValueError(f"the view '{view}' was not decoded")
        return self.shots[view]

    def voice(self, view: str) -> Voice:
        """The sound that `view` needs, which must have been decoded."""
        needs = VIEWS[view].needs
        if needs not in self.voices:
            raise ValueError(f"the view '{view}' was not decoded")
        return self.voices[needs]


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy to the device; on CUDA from pinned memory, without waiting for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def make_views(decoded: Decoded, device: torch.device) -> Views:
    """The views of one item. What was not decoded is left out."""
    shots: dict[str, Shots] = {}
    _add(shots, decoded.frames, "frame", "clip", device)
    _add(shots, decoded.faces, "face", "face-clip", device)
    _add(shots, decoded.mouths, "mouth", "", device)
    voices = {} if decoded.sound is None else _voices(decoded.sound, device)
    geometry = None if decoded.geometry is None else torch.from_numpy(decoded.geometry)
    return Views(shots, voices, geometry)


def _add(shots: dict[str, Shots], frames: Frames | None, single: str, clips: str, device: torch.device) -> None:
    if frames is None:
        return
    pixels = to_device(frames.pixels, device).permute(0, 3, 1, 2)
    for view, rows in ((single, frames.frame_rows), (clips, frames.clip_rows)):
        if len(rows):
            # All rows in order are the tensor itself: no copy of what may be a hundred megabytes.
            whole = rows.ndim == 1 and np.array_equal(rows, np.arange(len(pixels)))
            chosen = pixels if whole else pixels[torch.from_numpy(rows).to(device)]
            shots[view] = Shots(chosen, frames.times_s[rows], frames.indices[rows])


def _voices(sound: Sound, device: torch.device) -> dict[str, Voice]:
    recorded = to_device(sound.samples, device)
    samples = torchaudio.functional.resample(recorded, sound.rate_hz, SOUND_RATE_HZ)
    voices = {"sound": Voice(samples, sound.start_s, sound.time_scale)}
    if sound.voiced is not None:
        first, end = (round(i * SOUND_RATE_HZ / sound.rate_hz) for i in sound.voiced)
        start_s = sound.start_s + first / SOUND_RATE_HZ * sound.time_scale
        voices["trimmed"] = Voice(samples[first:end], start_s, sound.time_scale, first)
    return voices
