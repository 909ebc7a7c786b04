"""Layers, steps and trimmed sound of speech encoders, held against the library's states pooled here by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from mmdf.cache.errors import UsageError, WeightsError
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.store import FeatureStore
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.media.decode import DecodeRequest, decode
from mmdf.extract.media.sound import voiced_range
from mmdf.extract.options import ExtractOptions
from mmdf.extract.stage import Extraction
from mmdf.extract.views import Views, make_views

CPU = torch.device("cpu")
TINY = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
# As published: base models have a group norm and no final LayerNorm, XLS-R and the large ones the other way round.
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS: dict[str, tuple] = {
    "hubert-base": (transformers.HubertModel, transformers.HubertConfig(**TINY, num_hidden_layers=12), False),
    "wav2vec2-base": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(**TINY, num_hidden_layers=12), True),
    "xls-r-300m": (
        transformers.Wav2Vec2Model,
        transformers.Wav2Vec2Config(**TINY, **STABLE, num_hidden_layers=24),
        True,
    ),
    "hubert-large": (
        transformers.HubertModel,
        transformers.HubertConfig(**TINY, **STABLE, num_hidden_layers=24),
        True,
    ),
}
WINDOW = 64_000


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, randomised) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name, (model_class, config, normalise) in MODELS.items():
        randomised(model_class(config)).save_pretrained(folder / name)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def held(weights: Path, load) -> dict[str, Backbone]:
    """Held, so that their models are loaded once for all tests."""
    return {name: load(name, weights) for name in MODELS}


def states_of(name: str, weights: Path, views: Views, starts_s: list[float]) -> list[np.ndarray]:
    """The library's states at 50 Hz of each window, (layers + 1, time, D), the last before a final LayerNorm if any."""
    model = MODELS[name][0].from_pretrained(weights / name).eval()
    processor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(weights / name)
    inside: list[torch.Tensor] = []
    model.encoder.layers[-1].register_forward_hook(
        lambda _, args, found: inside.append(found if isinstance(found, torch.Tensor) else found[0])
    )
    samples, found = views.voice("speech").samples.numpy(), []
    for start in starts_s:
        window = samples[round(start * 16000) : round(start * 16000) + WINDOW]
        inputs = processor(window, sampling_rate=16000, return_tensors="pt").input_values
        with torch.inference_mode():
            answer = model(inputs, output_hidden_states=True)
        found.append(torch.cat([*answer.hidden_states[:-1], inside[-1]]).numpy())
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layers", ["all", "1,2", "0"])
def test_layers_are_the_library_s_averaged_over_each_window(
    name: str, layers: str, weights: Path, held, sound, load, embed
) -> None:
    views, n_layers = sound(6.5), MODELS[name][1].num_hidden_layers
    numbers = list(range(n_layers + 1)) if layers == "all" else [int(number) for number in layers.split(",")]
    expected = np.stack([s[numbers].mean(1) for s in states_of(name, weights, views, [0, 2, 2.5])])
    backbone = load(name, weights, layers)
    found = embed(backbone, views)
    assert backbone.spec.shape == ((len(numbers), 16) if len(numbers) > 1 else ())
    assert backbone.spec.alias == f"{name}/speech+layers-{layers.replace(',', '-')}"
    assert found.shape == (3, len(numbers) * 16)
    assert np.abs(found.reshape(expected.shape) - expected).max() < 2e-5
    assert np.abs(expected[0] - expected[1]).max() > 1e-2


@pytest.mark.parametrize("name", ["xls-r-300m", "hubert-large"])
def test_prenorm_is_what_goes_into_the_final_norm(name: str, weights: Path, held, sound, load, embed) -> None:
    views = sound(6.0)
    expected = np.stack([s[-1].mean(0) for s in states_of(name, weights, views, [0, 2])])
    assert np.abs(embed(load(name, weights, "prenorm"), views) - expected).max() < 2e-5
    assert np.abs(embed(held[name], views) - expected).max() > 1e-2, "the plain embedding is normalised"


@pytest.mark.parametrize("name", ["wav2vec2-base", "hubert-base"])
def test_base_models_have_nothing_before_a_final_norm(name: str, weights: Path, held, load) -> None:
    with pytest.raises(UsageError, match=f"'{name}' normalises within each layer"):
        load(name, weights, "prenorm")


def test_a_library_that_normalises_the_last_state_is_refused(weights: Path, held, load, monkeypatch) -> None:
    plain = transformers.Wav2Vec2Model.forward

    def as_in_older_versions(self, inputs, **options):
        found = plain(self, inputs, **options)
        found.hidden_states = (*found.hidden_states[:-1], found.last_hidden_state)
        return found

    monkeypatch.setattr(transformers.Wav2Vec2Model, "forward", as_in_older_versions)
    with pytest.raises(WeightsError, match="pip install -U transformers"):
        load("xls-r-300m", weights, "all")


def steps_of(backbone: Backbone, views: Views) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, times and first samples of the steps that are kept, as stage one keeps them."""
    rows = backbone.rows(views)
    with torch.inference_mode():
        values = backbone.forward(rows.inputs).flatten(0, -2).numpy()
    assert rows.pick is not None
    return values[rows.pick], rows.times_s, rows.indices


def pooled(states: np.ndarray, step: int, n_steps: int) -> np.ndarray:
    """The mean of the states of one step, (layers, D); steps share a state that lies on their border."""
    n = states.shape[1]
    return states[:, step * n // n_steps : math.ceil((step + 1) * n / n_steps)].mean(1)


def test_each_step_comes_from_the_window_in_whose_middle_it_lies(weights: Path, held, sound, load) -> None:
    name, starts = "wav2vec2-base", np.array([0.0, 2.0, 4.0, 5.0])
    views = sound(9.0)
    states = states_of(name, weights, views, starts.tolist())
    expected = []
    for centre in np.arange(0.25, 9, 0.5):
        window = int(np.argmin(np.abs(starts + 2 - centre)))
        expected.append(pooled(states[window][[3, 7]], round((centre - 0.25 - starts[window]) / 0.5), 8).ravel())
    backbone = load(name, weights, "3,7", steps_hz=2.0)
    values, times_s, indices = steps_of(backbone, views)
    assert times_s.tolist() == pytest.approx(np.arange(0, 9, 0.5).tolist())
    assert indices.tolist() == list(range(0, 144_000, 8000))
    assert values.shape == (18, 32)
    assert np.abs(values - np.stack(expected)).max() < 2e-5
    spec = backbone.spec
    assert (spec.hop_s, spec.variant, spec.shape) == (0.5, "layers-3-7+2hz", (2, 16))
    assert spec.fingerprint != load(name, weights, "3,7", steps_hz=1.0).spec.fingerprint


@pytest.mark.parametrize("duration_s", [4.0, 4.1, 5.7, 6.0, 9.3, 12.99])
@pytest.mark.parametrize("steps_hz", [0.5, 2.0, 12.5])
def test_steps_follow_one_another_through_any_duration(
    duration_s: float, steps_hz: float, weights: Path, held, sound, load
) -> None:
    rows = load("hubert-base", weights, steps_hz=steps_hz).rows(sound(duration_s))
    gaps_s = np.diff(rows.times_s)
    # Only where the last window begins, which ends with the sound, may steps lie closer or further apart.
    regular = np.isclose(gaps_s, 1 / steps_hz, atol=1e-4)
    assert (gaps_s > 0).all()
    assert (~regular).sum() <= 1
    assert (gaps_s < 2 / steps_hz + 1e-4).all()
    assert rows.times_s[0] == 0
    assert rows.times_s[-1] + 1 / steps_hz == pytest.approx(duration_s, abs=1e-3)
    assert len(rows.times_s) == len(rows.pick) == pytest.approx(duration_s * steps_hz, abs=1)


@pytest.mark.parametrize(("duration_s", "steps"), [(0.1, 1), (0.7, 1), (1.2, 2), (3.9, 8)])
def test_steps_of_sound_shorter_than_a_window_share_it(
    duration_s: float, steps: int, weights: Path, held, sound, load
) -> None:
    views = sound(duration_s)
    values, times_s, _ = steps_of(load("hubert-base", weights, "last", steps_hz=2.0), views)
    assert times_s == pytest.approx(np.arange(steps) * duration_s / steps, abs=1e-4)
    states = states_of("hubert-base", weights, views, [0])[0][-1:]
    assert np.abs(values - np.concatenate([pooled(states, k, steps) for k in range(steps)])).max() < 2e-5


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        ({"steps_hz": 0.3}, "do not hold a whole number"),
        ({"steps_hz": 0.25}, "Take a multiple of 0.5"),
        ({"steps_hz": 2.0, "window_hop_s": 1.3}, "do not hold a whole number"),
        ({"steps_hz": 100.0}, "50 states a second"),
    ],
)
def test_steps_that_do_not_fit_are_refused(sampling: dict, text: str, weights: Path, held, load) -> None:
    with pytest.raises(UsageError, match=text):
        load("hubert-base", weights, **sampling)


def test_steps_reach_the_store_in_order(tmp_path: Path, weights: Path, held, load, make_sound) -> None:
    paths = [make_sound(f"m/{n}.wav", duration_s, seed=n) for n, duration_s in enumerate((0.6, 9.0, 5.0))]
    items = [Item(p.name, p.name, "audio", size_bytes=p.stat().st_size) for p in paths]
    manifest = Manifest.of(items, tmp_path / "m")
    backbone = load("hubert-base", weights, "0,12", steps_hz=2.0)
    store = FeatureStore.open(tmp_path / "store", create=True)
    options = ExtractOptions(n_workers=0, batch_rows=3)
    assert Extraction(manifest, store, [backbone], CPU, options, "run").run().failures == {}
    read = store.read(backbone.spec, manifest)
    assert read.n_steps.tolist() == [1, 18, 10]
    views = make_views(decode(DecodeRequest(paths[1], "audio", frozenset({"sound"}))), CPU)
    expected, times_s, _ = steps_of(backbone, views)
    assert read.times_s[1:19].tolist() == pytest.approx(times_s.tolist())
    assert np.abs(read.values[1:19].astype(np.float32) - expected).max() < 2e-3 * np.abs(expected).max()


def test_trimmed_sound_begins_where_the_voice_does(tmp_path: Path, weights: Path, held, load, embed) -> None:
    import soundfile

    rate_hz, rng = 44_100, np.random.default_rng(0)
    voice = 0.3 * rng.standard_normal(3 * rate_hz)
    silence = 1e-4 * rng.standard_normal(rate_hz)
    samples = np.concatenate([silence, voice, silence[: rate_hz // 2]])
    soundfile.write(tmp_path / "a.wav", samples, rate_hz)
    views = make_views(decode(DecodeRequest(tmp_path / "a.wav", "audio", frozenset({"sound", "trimmed"}))), CPU)
    whole, trimmed = views.voice("speech"), views.voice("speech-trimmed")
    assert len(whole.samples) == 72_000
    assert len(trimmed.samples) == pytest.approx(48_000, abs=400)
    backbone = load("hubert-base/speech-trimmed", weights, steps_hz=2.0)
    rows = backbone.rows(views)
    assert rows.times_s == pytest.approx(1 + 0.5 * np.arange(6), abs=0.02)
    assert rows.indices == pytest.approx(16_000 + 8000 * np.arange(6), abs=320)
    assert torch.equal(trimmed.samples, whole.samples[trimmed.first : trimmed.first + len(trimmed.samples)])
    plain = load("hubert-base", weights, steps_hz=2.0)
    assert backbone.spec.view == "speech-trimmed"
    assert backbone.spec.decoder["trim_db"] == 40
    assert replace(backbone.spec, view="speech") != plain.spec


@pytest.mark.parametrize(
    ("parts", "expected_s"),
    [
        ([(0.0, 1.0)], (0.0, 1.0)),
        ([(1.0, 1.0)], (0.0, 1.0)),
        ([(0.0, 0.5), (1.0, 0.5), (0.0, 0.5)], (0.5, 1.0)),
        ([(0.0, 0.5), (1.0, 0.04), (0.0, 0.5)], (0.0, 1.04)),
        ([(1.0, 0.2), (0.0, 0.5), (1.0, 0.2)], (0.0, 0.9)),
        ([(0.0, 0.5), (1.0, 0.513)], (0.5, 1.013)),
        ([(0.02, 0.5), (1.0, 0.5)], (0.0, 1.0)),
        ([(0.005, 0.5), (1.0, 0.5)], (0.5, 1.0)),
        ([(1.0, 0.01)], (0.0, 0.01)),
    ],
    ids=["silent", "loud", "both ends", "a click", "a pause", "to the end", "34 dB", "46 dB", "shorter than a frame"],
)
def test_what_is_silence_at_the_ends(parts: list[tuple[float, float]], expected_s: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    samples = np.concatenate([level * rng.standard_normal(round(16_000 * s)) for level, s in parts])
    assert np.array(voiced_range(samples, 16_000)) / 16_000 == pytest.approx(expected_s, abs=1e-6)


def test_published_layouts_of_wav2vec2_hold_the_encoder(
    tmp_path: Path, weights: Path, held, sound, load, embed
) -> None:
    """`facebook/wav2vec2-base` is a checkpoint for pretraining, in torch's format, with weight norm's older names."""
    model = transformers.Wav2Vec2ForPreTraining(MODELS["wav2vec2-base"][1])
    model.wav2vec2.load_state_dict(transformers.Wav2Vec2Model.from_pretrained(weights / "wav2vec2-base").state_dict())
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for name, tensor in model.state_dict().items():
        for new, old in older.items():
            name = name.replace(new, old)
        if not name.endswith("masked_spec_embed"):
            tensors[name] = tensor
    assert any(name.startswith("wav2vec2.") and name.endswith("weight_g") for name in tensors)
    folder = tmp_path / "wav2vec2-base"
    model.config.save_pretrained(folder)
    torch.save(tensors, folder / "pytorch_model.bin")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    views = sound(4.0)
    assert np.allclose(embed(load("wav2vec2-base", tmp_path), views), embed(held["wav2vec2-base"], views), atol=1e-6)


def test_a_processor_without_a_word_on_normalisation_normalises(tmp_path: Path, weights: Path, held, load) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((weights / "wav2vec2-base" / name).read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000}))
    assert load("wav2vec2-base", tmp_path).spec.preprocessing["normalise"] == "window"
    assert held["hubert-base"].spec.preprocessing["normalise"] == "no"
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="lacks a usable preprocessor_config"):
        load("wav2vec2-base", tmp_path)
