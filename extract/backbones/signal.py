"""Signal-level features, which need no weights: LFCC and log-mel of sound, the spectrum of pictures, where faces are.

Their rows are the features themselves, in float32; `forward` has nothing left to do.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchaudio

from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.views import SOUND_RATE_HZ, Views

_WINDOW, _HOP = 400, 160
_POWER_FLOOR = 1e-10


class SignalBackbone:
    """A function from views to (n, dim) features and their times."""

    def __init__(
        self,
        context: LoadContext,
        compute: Callable[[Views], Rows],
        *,
        pooling: str,
        preprocessing: dict[str, Any],
        hop_s: float | None = None,
        storage_dtype: str = "float16",
    ) -> None:
        self._compute = compute
        self.spec = make_spec(
            context,
            dim=context.card.dim,
            layers="none",
            pooling=pooling,
            preprocessing=preprocessing,
            hop_s=hop_s,
            signal=True,
            storage_dtype=storage_dtype,
        )

    def rows(self, views: Views) -> Rows:
        """The finished features, (n, dim) float32."""
        return self._compute(views)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, dim), as it came."""
        return inputs


def spectral(
    context: LoadContext, transform: Callable[[torch.Tensor], torch.Tensor], **preprocessing: Any
) -> SignalBackbone:
    """A backbone of (T,) sound at 16 kHz to (steps, dim) features, a step every 10 ms."""

    def compute(views: Views) -> Rows:
        voice = views.voice(context.card.view)
        found = transform(voice.samples)
        starts = np.arange(len(found)) * _HOP
        return Rows(found, voice.times_s(starts), voice.first + starts)

    preprocessing |= {"rate_hz": SOUND_RATE_HZ, "hop": _HOP}
    return SignalBackbone(context, compute, pooling="none", preprocessing=preprocessing, hop_s=_HOP / SOUND_RATE_HZ)


def pictorial(
    context: LoadContext, transform: Callable[[torch.Tensor], torch.Tensor], *, pooling: str, **preprocessing: Any
) -> SignalBackbone:
    """A backbone of single frames, (H, W) luminance in [0, 255] to (dim,) features."""

    def compute(views: Views) -> Rows:
        shots = views.pictures(context.card.view)
        return Rows(torch.stack([transform(luminance(f)) for f in shots.pixels]), shots.times_s, shots.indices)

    return SignalBackbone(context, compute, pooling=pooling, preprocessing=preprocessing)


def load_lfcc(context: LoadContext) -> Backbone:
    """Linear-frequency cepstra: 20 coefficients of 70 filters with first and second differences, (T, 60) at 100 Hz.

    Sahidullah et al. 2015, section 2.1, with the 70 filters of ASVspoof 2021's baseline, so that speech recorded at
    8 kHz still fills half of them; that baseline's windows are 30 ms where these are 25 ms.
    """
    options = {"n_fft": 1024, "win_length": _WINDOW, "hop_length": _HOP}
    lfcc = torchaudio.transforms.LFCC(SOUND_RATE_HZ, n_filter=70, n_lfcc=20, speckwargs=options)
    # torchaudio cuts at 80 dB below the peak, which hides the noise floor of 16-bit sound, where vocoders show.
    lfcc.amplitude_to_DB = torchaudio.transforms.AmplitudeToDB("power", top_db=None)

    lfcc = lfcc.to(context.device)
    return spectral(
        context,
        lambda samples: with_differences(lfcc(samples)).T.contiguous(),
        n_fft=1024, window=_WINDOW, filters=70, coefficients=20, deltas=2, floor=_POWER_FLOOR,
    )  # fmt: skip


def with_differences(cepstra: torch.Tensor) -> torch.Tensor:
    """(C, T) cepstra to (3 C, T) with first and second differences."""
    first = torchaudio.functional.compute_deltas(cepstra)
    return torch.cat([cepstra, first, torchaudio.functional.compute_deltas(first)])


def load_logmel(context: LoadContext) -> Backbone:
    """Natural logarithm of 80 mel bands of power, floored at 1e-10, below the noise of 16 bits; (T, 80) at 100 Hz."""
    mel = torchaudio.transforms.MelSpectrogram(SOUND_RATE_HZ, n_fft=512, win_length=_WINDOW, hop_length=_HOP, n_mels=80)
    mel = mel.to(context.device)
    return spectral(
        context,
        lambda samples: mel(samples).clamp(min=_POWER_FLOOR).log().T.contiguous(),
        n_fft=512, window=_WINDOW, bands=80, floor=_POWER_FLOOR,
    )  # fmt: skip


def load_spectrum(context: LoadContext) -> Backbone:
    """Azimuthal average of the log power spectrum of luminance, 128 bins up to the Nyquist frequency, (n, 128).

    Durall et al. 2020, section 3.1. We differ in measuring the radius as a share of each axis' Nyquist frequency, so
    that pictures of any size and shape give the same bins. Pictures are not resized first: resizing is a trace itself,
    which also means that a data set whose classes differ in size is separated by this feature for no good reason.
    """
    bins = context.card.dim
    return pictorial(
        context, lambda grey: azimuthal_average(grey, bins), pooling="azimuthal mean", bins=bins, floor=1e-3
    )


def load_face_geometry(context: LoadContext) -> Backbone:
    """Where the face is in each frame: box, confidence and five landmarks, (n, 15) float32, in shares of the frame.

    Stored beside every feature of faces, so that a jump of the detector can be told from a jump of the face. Kept in
    float32, since float16 would move a landmark by a pixel.
    """

    def compute(views: Views) -> Rows:
        shots = views.pictures("face")
        if views.geometry is None:
            raise ValueError("faces were not looked for")
        return Rows(views.geometry, shots.times_s, shots.indices)

    return SignalBackbone(context, compute, pooling="none", preprocessing={}, storage_dtype="float32")


def luminance(pixels: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) uint8 to (..., H, W) float32 in [0, 255], by ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(3, 1, 1)
    return (pixels.float() * weights).sum(-3)


def azimuthal_average(grey: torch.Tensor, bins: int) -> torch.Tensor:
    """Mean log power in `bins` rings of equal width, (H, W) to (bins,). Corners beyond the Nyquist radius are left out.

    Rings of small pictures that hold no frequency take the value of their neighbour below.
    """
    height, width = grey.shape
    power = torch.fft.fft2(grey).abs().square() / (height * width)
    fy = torch.fft.fftfreq(height, device=grey.device).abs() * 2
    fx = torch.fft.fftfreq(width, device=grey.device).abs() * 2
    radius = torch.sqrt(fy[:, None] ** 2 + fx[None, :] ** 2)
    inside = radius <= 1
    ring = (radius[inside] * bins).long().clamp(max=bins - 1)
    total = torch.zeros(bins, device=grey.device).index_add_(0, ring, torch.log(power[inside] + 1e-3))
    count = torch.bincount(ring, minlength=bins)
    filled = torch.cummax(torch.where(count > 0, torch.arange(bins, device=grey.device), 0), 0).values
    return (total / count.clamp(min=1))[filled]
