"""Backbones with seeded random weights: no download, no meaning. A floor for real ones, and what tests run on.

A detector that does no better on a real backbone than on these has learnt something trivial.
"""

from dataclasses import replace

import torch

from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.backbones.preprocess import Recipe, prepared
from mmdf.extract.media.sampling import window_starts
from mmdf.extract.views import SOUND_RATE_HZ, Views

_SEED = 0
_RECIPE = Recipe(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class ToyBackbone:
    """A random two-layer network on small frames (n, 3, 32, 32), or on the log power spectrum of windows (n, 257)."""

    def __init__(self, context: LoadContext) -> None:
        # A toy has no states within a window to take steps from.
        context = replace(context, sampling=replace(context.sampling, steps_hz=None))
        picture = context.card.stream == "picture"
        self._picture, self._view = picture, context.card.view
        generator = torch.Generator().manual_seed(_SEED)
        width = 3 * 32 * 32 if picture else 257
        self._first = self._weights(width, 64, generator).to(context.device)
        self._second = self._weights(64, context.card.dim, generator).to(context.device)
        sampling = context.sampling
        self._window = round(sampling.window_s * SOUND_RATE_HZ)
        self._hop = round(sampling.window_hop_s * SOUND_RATE_HZ)
        self.spec = make_spec(
            context,
            dim=context.card.dim,
            layers="random",
            pooling="none",
            preprocessing=(_RECIPE.to_spec() if picture else {"n_fft": 512}) | {"seed": _SEED},
            hop_s=None if picture else sampling.window_hop_s,
            signal=True,
        )

    @staticmethod
    def _weights(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) / rows**0.5

    def rows(self, views: Views) -> Rows:
        """Frames, or the mean log spectrum of each window."""
        if self._picture:
            shots = views.pictures(self._view)
            inputs = prepared(views, self._view, _RECIPE, torch.float32).flatten(1)
            return Rows(inputs, shots.times_s, shots.indices)
        voice = views.voice(self._view)
        starts = window_starts(len(voice.samples), self._window, self._hop)
        hann = torch.hann_window(512, device=voice.samples.device)
        spectra = [
            torch.stft(voice.samples[s : s + self._window], 512, window=hann, return_complex=True).abs()
            for s in starts.tolist()
        ]
        inputs = torch.stack([(spectrum.square() + 1e-6).log().mean(1) for spectrum in spectra])
        return Rows(inputs, voice.times_s(starts), voice.first + starts)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, width) to (n, dim) float32."""
        return torch.tanh(inputs @ self._first) @ self._second


def load_toy(context: LoadContext) -> Backbone:
    """`toy-picture` or `toy-sound`."""
    return ToyBackbone(context)
