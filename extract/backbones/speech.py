"""Self-supervised speech models through transformers: Wav2Vec2, XLS-R and HuBERT on 4 s windows.

Windows are never padded: the group norm of the base models sees the whole window, so padding would change every step
of it. Sound shorter than a window is one shorter row, and only rows of equal length share a batch.
"""

import json
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModel

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.extract.backbones.base import Backbone, LoadContext, Rows, make_spec
from mmdf.extract.backbones.pictures import check_layers
from mmdf.extract.backbones.pretrained import first_line, pretrained
from mmdf.extract.media.sampling import Sampling, step_times, window_starts
from mmdf.extract.views import SOUND_RATE_HZ, Views

_EPSILON = 1e-7
_STATES_HZ = 50
# The shortest sound that is let in, 0.1 s.
_PROBE_SAMPLES = 1600


class SpeechBackbone:
    """Hidden states averaged over a window, or over steps within it; one embedding a step, with an axis of layers."""

    def __init__(self, context: LoadContext, model: Any, normalise: bool) -> None:
        sampling, outputs = context.sampling, context.outputs
        self._normalise, self._dtype = normalise, context.dtype
        self._run = context.compiled(model)
        self._view, self._steps_hz = context.card.view, sampling.steps_hz
        self._window = round(sampling.window_s * SOUND_RATE_HZ)
        self._hop = round(sampling.window_hop_s * SOUND_RATE_HZ)
        self._layers, self._numbers = outputs.layers, outputs.layer_numbers(context.card.n_layers)
        check_steps(sampling)
        self.spec = make_spec(
            context,
            dim=checked_width(context, model),
            layers="last",
            pooling="mean over the step" if sampling.steps_hz else "mean over the window",
            preprocessing={"rate_hz": SOUND_RATE_HZ, "normalise": "window" if normalise else "no"},
            hop_s=1 / sampling.steps_hz if sampling.steps_hz else sampling.window_hop_s,
        )

    def rows(self, views: Views) -> Rows:
        """One row a window: (n, samples), zero mean and unit variance each where the model was trained so."""
        voice = views.voice(self._view)
        starts = window_starts(len(voice.samples), self._window, self._hop)
        windows = torch.stack([voice.samples[s : s + self._window] for s in starts.tolist()])
        if self._normalise:
            mean = windows.mean(1, keepdim=True)
            variance = windows.var(1, unbiased=False, keepdim=True)
            windows = (windows - mean) / torch.sqrt(variance + _EPSILON)
        inputs = windows.to(self._dtype)
        if self._steps_hz is None:
            return Rows(inputs, voice.times_s(starts), voice.first + starts)
        begins, pick = step_times(starts, windows.shape[1], self._n_steps(windows.shape[1]))
        return Rows(inputs, voice.times_s(begins), voice.first + begins, pick)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, samples) to (n, dim) float32, or to (n, steps, dim)."""
        found = self._run(inputs, output_hidden_states=self._layers != "last")
        if self._layers == "last":
            kept = found.last_hidden_state[:, None]
        else:
            kept = torch.stack([found.hidden_states[number] for number in self._numbers or (-1,)], 1)
        kept = kept.float()
        if self._steps_hz is None:
            return kept.mean(2).flatten(1)
        n_steps = self._n_steps(inputs.shape[1])
        # (n * layers, dim, time) to (n, steps, layers * dim)
        pooled = functional.adaptive_avg_pool1d(kept.flatten(0, 1).transpose(1, 2), n_steps)
        return pooled.view(*kept.shape[:2], -1, n_steps).permute(0, 3, 1, 2).flatten(2)

    def _n_steps(self, n_samples: int) -> int:
        return max(1, round(n_samples / SOUND_RATE_HZ * (self._steps_hz or 0)))


def check_steps(sampling: Sampling) -> None:
    """`UsageError` unless steps fit into windows and into the hops between them, and states into steps."""
    steps_hz = sampling.steps_hz
    if steps_hz is None:
        return
    counts = (sampling.window_s * steps_hz, sampling.window_hop_s * steps_hz)
    if any(round(count) < 1 or abs(count - round(count)) > 1e-6 for count in counts):
        raise UsageError(
            f"--steps-hz {steps_hz:g}: windows of {sampling.window_s:g} s every {sampling.window_hop_s:g} s do not "
            f"hold a whole number of such steps. Take a multiple of {1 / sampling.window_hop_s:g}."
        )
    if steps_hz > _STATES_HZ:
        raise UsageError(f"--steps-hz {steps_hz:g}: speech models have {_STATES_HZ} states a second.")


def checked_width(context: LoadContext, model: Any) -> int:
    """Width of the model's states, from its answer to a moment of silence.

    Raises
    ------
    UsageError
        If the state before a final LayerNorm is asked for where there is none.
    WeightsError
        If the model does not take raw sound, or has not the layers that its card says.
    """
    outputs, name = context.outputs, context.card.name
    silence = torch.zeros(1, _PROBE_SAMPLES, dtype=context.dtype, device=context.device)
    try:
        with torch.inference_mode():
            found = model(silence, output_hidden_states=True)
        last, states = found.last_hidden_state, found.hidden_states
        width = int(last.shape[2])
    # Models of other kinds fail in as many ways as there are kinds.
    except Exception as error:
        raise WeightsError(
            f"'{name}' does not take raw sound ({first_line(error)}). Write a plugin for it: docs/backbones.md."
        ) from error
    if outputs.layers != "last":
        check_layers(context, states)
    stable = getattr(model.config, "do_stable_layer_norm", False)
    if outputs.layers == "prenorm" and not stable:
        raise UsageError(
            f"--layers prenorm: '{name}' normalises within each layer and has no final LayerNorm. "
            "Take last, or extract it in a run of its own."
        )
    if outputs.layers != "last" and stable and torch.equal(states[-1], last):
        raise WeightsError(
            "This version of transformers gives the last layer of speech models after the final LayerNorm; later ones "
            "give it before, and mixing the two spoils a store. Update it: pip install -U transformers."
        )
    return width


def load_speech(context: LoadContext) -> Backbone:
    """Any transformers speech encoder with `last_hidden_state` over raw samples, from a local folder.

    Wav2Vec2: Baevski et al. 2020; XLS-R: Babu et al. 2021; HuBERT: Hsu et al. 2021. We differ from downstream use in
    s3prl in averaging over a window, or over steps, instead of keeping 50 Hz: all layers of a base model at 50 Hz are
    31 times the size of the sound.
    """
    model = pretrained(context, AutoModel)
    try:
        processor = json.loads((context.folder / "preprocessor_config.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{context.folder} lacks a usable preprocessor_config.json ({error}). Fetch it.") from error
    if processor.get("sampling_rate", SOUND_RATE_HZ) != SOUND_RATE_HZ:
        raise WeightsError(f"{context.folder} wants {processor['sampling_rate']} Hz; sound here is {SOUND_RATE_HZ} Hz.")
    return SpeechBackbone(context, model, bool(processor.get("do_normalize", True)))
