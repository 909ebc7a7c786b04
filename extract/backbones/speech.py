"""Self-supervised speech models through transformers: Wav2Vec2 and HuBERT on 4 s windows.

Windows are never padded: the group norm of the base models sees the whole window, so padding would change every step
of it. Sound shorter than a window is one shorter row, and only rows of equal length share a batch.
"""

import json
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from mmdf.cache.errors import WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.backbones.pretrained import pretrained
from mmdf.extract.media.sampling import window_starts
from mmdf.extract.views import SOUND_RATE_HZ, Views

_EPSILON = 1e-7


class SpeechBackbone:
    """Mean over time of the last hidden layer, one embedding a window."""

    def __init__(self, context: LoadContext, model: Any, normalise: bool) -> None:
        sampling = context.sampling
        self._model, self._normalise, self._dtype = model, normalise, context.dtype
        self._window = round(sampling.window_s * SOUND_RATE_HZ)
        self._hop = round(sampling.window_hop_s * SOUND_RATE_HZ)
        self.spec = make_spec(
            context,
            dim=int(model.config.hidden_size),
            layers="last",
            pooling="mean over the window",
            preprocessing={"rate_hz": SOUND_RATE_HZ, "normalise": "window" if normalise else "no"},
            hop_s=sampling.window_hop_s,
        )

    def rows(self, views: Views) -> Rows:
        """One row a window: (n, samples), zero mean and unit variance each where the model was trained so."""
        if views.sound is None:
            raise ValueError("the view was not decoded")
        starts = window_starts(len(views.sound), self._window, self._hop)
        windows = torch.stack([views.sound[s : s + self._window] for s in starts.tolist()])
        if self._normalise:
            mean = windows.mean(1, keepdim=True)
            variance = windows.var(1, unbiased=False, keepdim=True)
            windows = (windows - mean) / torch.sqrt(variance + _EPSILON)
        times_s = views.sound_start_s + starts.astype(np.float64) / SOUND_RATE_HZ
        return Rows(windows.to(self._dtype), times_s)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, samples) to (n, dim) float32."""
        return self._model(inputs).last_hidden_state.float().mean(1)


def load_speech(context: LoadContext) -> Backbone:
    """Any transformers speech encoder with `last_hidden_state` over raw samples, from a local folder.

    Wav2Vec2: Baevski et al. 2020; HuBERT: Hsu et al. 2021. We differ from downstream use in s3prl in averaging over a
    window instead of keeping 50 Hz steps, which is what a pooled probe sees anyway.
    """
    model = pretrained(context, AutoModel)
    try:
        processor = json.loads((context.folder / "preprocessor_config.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{context.folder} lacks a usable preprocessor_config.json ({error}). Fetch it.") from error
    if processor.get("sampling_rate", SOUND_RATE_HZ) != SOUND_RATE_HZ:
        raise WeightsError(f"{context.folder} wants {processor['sampling_rate']} Hz; sound here is {SOUND_RATE_HZ} Hz.")
    return SpeechBackbone(context, model, bool(processor.get("do_normalize", True)))
