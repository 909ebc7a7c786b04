"""What a media file may ask of this machine, checked from its header before anything is decoded."""

from dataclasses import dataclass

from mmdf.cache.errors import MediaError


@dataclass(frozen=True)
class Limits:
    """Bounds on one file. The defaults admit an 80-megapixel photograph and an hour of film, and no bomb."""

    max_pixels: int = 89_000_000
    min_side_px: int = 16
    max_duration_s: float = 3600.0
    min_sound_s: float = 0.1
    max_rate_hz: int = 384_000
    timeout_s: float = 120.0


DEFAULT_LIMITS = Limits()


def check_size(width_px: int, height_px: int, limits: Limits) -> None:
    """Refuse pictures that are too large to decode safely or too small to hold anything."""
    if width_px * height_px > limits.max_pixels:
        raise MediaError(
            f"the picture is {width_px}x{height_px} px; at most {limits.max_pixels / 1e6:.0f} megapixels are decoded. "
            "Scale it down.",
            "probe",
        )
    if min(width_px, height_px) < limits.min_side_px:
        raise MediaError(
            f"the picture is {width_px}x{height_px} px; at least {limits.min_side_px} px a side are needed. "
            "Leave it out of the manifest.",
            "probe",
        )


def check_duration(duration_s: float, limits: Limits) -> None:
    """Refuse files that claim to last longer than the limit."""
    if duration_s > limits.max_duration_s:
        raise MediaError(
            f"it lasts {duration_s:.0f} s; at most {limits.max_duration_s:.0f} s are decoded. Cut it into pieces.",
            "probe",
        )


def check_sound(n_samples: int, rate_hz: int, limits: Limits) -> None:
    """Refuse sound that is too short to be heard as anything."""
    if not 0 < rate_hz <= limits.max_rate_hz:
        raise MediaError(f"the sound claims a rate of {rate_hz} Hz. The file is damaged.", "probe")
    if n_samples < limits.min_sound_s * rate_hz:
        raise MediaError(
            f"the sound lasts {1000 * n_samples / rate_hz:.0f} ms; at least {1000 * limits.min_sound_s:.0f} ms are "
            "needed. Leave it out of the manifest.",
            "probe",
        )
