"""From decoded arrays to what backbones look at, on the device: frames, clips, and sound at 16 kHz.

Raw pixels travel to the device as uint8, once for all backbones; resampling runs once for all speech features.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional

from mmdf.extract.media.decode import Decoded

SOUND_RATE_HZ = 16_000


@dataclass(frozen=True)
class Views:
    """One item, decoded, on the device.

    Attributes
    ----------
    frames
        (n, 3, H, W) uint8, or None.
    frame_times_s
        (n,) float64.
    clips
        (c, clip_frames, 3, H, W) uint8, or None.
    clip_times_s
        (c, clip_frames) float64.
    sound
        (T,) float32 at 16 kHz, or None.
    sound_start_s
        When the sound begins, on the clock of the picture.
    """

    frames: torch.Tensor | None
    frame_times_s: np.ndarray
    clips: torch.Tensor | None
    clip_times_s: np.ndarray
    sound: torch.Tensor | None
    sound_start_s: float


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy to the device; on CUDA from pinned memory, without waiting for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def make_views(decoded: Decoded, device: torch.device) -> Views:
    """The views of one item. What was not decoded stays None."""
    frames = clips = sound = None
    frame_times_s, clip_times_s = np.zeros(0), np.zeros((0, 0))
    if decoded.frames is not None:
        found = decoded.frames
        pixels = to_device(found.pixels, device).permute(0, 3, 1, 2)
        if len(found.frame_rows):
            frames, frame_times_s = (
                pixels[torch.from_numpy(found.frame_rows).to(device)],
                found.times_s[found.frame_rows],
            )
        if len(found.clip_rows):
            clips, clip_times_s = pixels[torch.from_numpy(found.clip_rows).to(device)], found.times_s[found.clip_rows]
    if decoded.sound is not None:
        recorded = to_device(decoded.sound.samples, device)
        sound = torchaudio.functional.resample(recorded, decoded.sound.rate_hz, SOUND_RATE_HZ)
    start_s = decoded.sound.start_s if decoded.sound else 0.0
    return Views(frames, frame_times_s, clips, clip_times_s, sound, start_s)
