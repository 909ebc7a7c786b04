"""The plain loop of a notebook, which our default is held against: one file after the other, float32, no workers.

Each file is opened by Pillow, soundfile or decord, goes through the model library's own processor and model as one
batch, and its embeddings are kept. Steps are ours (16 frames, windows of 4 s), so that both compute the same; and a
film is decoded once for all models, which many a notebook does not. It is timed in a process of its own, where threads
wait as they do by default: what `mmdf` sets for the sake of its decode workers would slow it down.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import decord
import numpy as np
import safetensors.torch
import soundfile
import timm
import torch
import transformers
from PIL import Image

from mmdf.cache.errors import MmdfError
from mmdf.extract.backbones import CARDS
from mmdf.extract.media.sampling import DEFAULT_SAMPLING, Sampling, uniform_indices, window_starts
from mmdf.extract.weights import find_weights

# Pictures or windows of one file to its embeddings, (n, dim).
Model = Callable[[list], np.ndarray]
_CLASSES: Mapping[str, Any] = {
    "clip": transformers.CLIPVisionModelWithProjection,
    "dinov2": transformers.Dinov2Model,
    "speech": transformers.AutoModel,
}


_WARM_UP_FILES = 2


def plain_seconds(modality: str, files: Sequence[Path], weights_dirs: Mapping[str, Path | None], frames: int) -> float:
    """What the plain loop takes over `files`, models loaded and warm, in a process of its own.

    Parameters
    ----------
    weights_dirs
        Where the weights of each model are; more than one model only for videos.
    """
    request = {
        "modality": modality,
        "files": [str(file) for file in files],
        "weights_dirs": {name: folder and str(folder) for name, folder in weights_dirs.items()},
        "frames": frames,
    }
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    arguments = [sys.executable, "-m", "mmdf.extract.bench.plain"]
    done = subprocess.run(arguments, input=json.dumps(request), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise MmdfError(f"The plain loop did not finish: {done.stderr.strip()[-500:]}")
    return float(json.loads(done.stdout)["seconds"])


def main() -> None:
    """Read a request from stdin, run it, write the seconds to stdout."""
    request = json.load(sys.stdin)
    files = [Path(file) for file in request["files"]]
    models = {name: plain_model(name, folder and Path(folder)) for name, folder in request["weights_dirs"].items()}
    run_plain(request["modality"], files[:_WARM_UP_FILES], models, request["frames"])
    started = time.perf_counter()
    run_plain(request["modality"], files, models, request["frames"])
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started}))


def run_plain(modality: str, files: Sequence[Path], models: Mapping[str, Model], frames: int) -> list:
    """The loop of one modality; images and sounds go through the first of `models` only."""
    if modality == "video":
        return plain_films(files, models, frames)
    loop = plain_images if modality == "image" else plain_sounds
    return loop(files, next(iter(models.values())))


def plain_images(files: Sequence[Path], model: Model) -> list[np.ndarray]:
    """(1, dim) of every image."""
    found = []
    for file in files:
        with Image.open(file) as image:
            found.append(model([image.convert("RGB")]))
    return found


def plain_sounds(files: Sequence[Path], model: Model, sampling: Sampling = DEFAULT_SAMPLING) -> list[np.ndarray]:
    """(windows, dim) of every sound at 16 kHz."""
    found = []
    for file in files:
        samples, rate_hz = soundfile.read(file, dtype="float32")
        window, hop = round(sampling.window_s * rate_hz), round(sampling.window_hop_s * rate_hz)
        starts = window_starts(len(samples), window, hop)
        found.append(model([samples[start : start + window] for start in starts.tolist()]))
    return found


def plain_films(
    files: Sequence[Path], models: Mapping[str, Model], frames: int = DEFAULT_SAMPLING.frames
) -> list[dict[str, np.ndarray]]:
    """(frames, dim) of every film by model."""
    found = []
    for file in files:
        reader = decord.VideoReader(str(file))
        pixels = reader.get_batch(uniform_indices(len(reader), frames).tolist()).asnumpy()
        pictures = [Image.fromarray(picture) for picture in pixels]
        found.append({name: model(pictures) for name, model in models.items()})
    return found


def plain_model(name: str, weights_dir: Path | None) -> Model:
    """The model called `name` and its processor, as its own library loads them."""
    card = CARDS[name]
    file = find_weights(card, weights_dir)
    if file is None:
        raise ValueError(f"'{name}' is computed from the signal and has no plain loop")
    if card.family == "timm":
        return _timm_model(card.architecture, file, bool(card.package))
    model = _CLASSES[card.family].from_pretrained(file.parent, local_files_only=True).eval()
    if card.family == "speech":
        return _speech_model(model, file.parent)
    processor = transformers.AutoImageProcessor.from_pretrained(file.parent, local_files_only=True)

    def embed(pictures: list) -> np.ndarray:
        with torch.no_grad():
            answer = model(**processor(images=pictures, return_tensors="pt"))
        return (answer.image_embeds if card.family == "clip" else answer.last_hidden_state[:, 0]).numpy()

    return embed


def _speech_model(model: Any, folder: Path) -> Model:
    processor = transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)

    def embed(windows: list) -> np.ndarray:
        with torch.no_grad():
            inputs = processor(windows, sampling_rate=16_000, return_tensors="pt").input_values
            return model(inputs).last_hidden_state.mean(1).numpy()

    return embed


def _timm_model(architecture: str, file: Path, by_order: bool) -> Model:
    model = timm.create_model(architecture, pretrained=False)
    if by_order:
        stored = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    else:
        model.load_state_dict(safetensors.torch.load_file(file))
    model.reset_classifier(0)
    model.eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))

    def embed(pictures: list) -> np.ndarray:
        with torch.no_grad():
            return model(torch.stack([transform(picture) for picture in pictures])).numpy()

    return embed


if __name__ == "__main__":
    main()
