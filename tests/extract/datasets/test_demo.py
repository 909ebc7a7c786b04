"""The made-up corpus: its labels and splits, its determinism, and that nothing trivial tells the classes apart."""

import csv
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmdf.cache.errors import UsageError
from mmdf.cache.manifest import Manifest
from mmdf.extract.datasets import demo, demo_voice
from mmdf.extract.datasets.build import build_manifest
from mmdf.extract.datasets.demo import write_corpus

SIZE = (256, 256)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("demo"), n_identities=6, clips_per_identity=6).parent


@pytest.fixture(scope="module")
def manifest(corpus: Path) -> Manifest:
    return build_manifest("table", corpus)


def _sound(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def _frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def _leading_silence_s(samples: np.ndarray) -> float:
    level = np.sqrt(np.convolve(samples**2, np.full(320, 1 / 320), "same"))
    return float(np.argmax(level > 0.25 * level.max())) / demo_voice.RATE_HZ


def test_every_category_and_method_is_there(manifest: Manifest) -> None:
    clips = [item for item in manifest.items() if item.modality == "video"]
    stills = [item for item in manifest.items() if item.modality == "image"]
    assert (len(clips), len(stills)) == (36, 24)
    kinds = {(item.path.split("/")[0], item.method, item.video_label, item.audio_label, item.family) for item in clips}
    assert kinds == {
        ("RealVideo-RealAudio", None, 0, 0, None),
        ("FakeVideo-RealAudio", "splice", 1, 0, "face-swap"),
        ("RealVideo-FakeAudio", "griffin-lim", 0, 1, "voice-conversion"),
        ("RealVideo-FakeAudio", "sync-shift", 0, 0, "lip-sync"),
        ("FakeVideo-FakeAudio", "splice+griffin-lim", 1, 1, "both"),
    }
    # Only moved sound is a fake whose streams are genuine.
    forged = [i for i in manifest.items() if i.method != "sync-shift"]
    assert all(item.label == max(item.video_label or 0, item.audio_label or 0) for item in forged)
    assert all(item.label == 1 for item in manifest.items() if item.method == "sync-shift")
    assert {(item.method, item.label, item.audio_label) for item in stills} == {(None, 0, None), ("splice", 1, None)}


def test_the_written_splits_are_kept_and_hold_two_people_each(manifest: Manifest) -> None:
    people: dict[str, set[str]] = {}
    for item in manifest.items():
        people.setdefault(str(item.split), set()).add(str(item.identity))
    assert {split: len(names) for split, names in people.items()} == {"train": 2, "val": 2, "test": 2}


@pytest.mark.parametrize("seed", range(3))
def test_donors_are_other_people_of_the_same_split(seed: int) -> None:
    for take in demo._takes(demo._people(12, seed), 4, seed):
        assert take.donor.split == take.person.split
        assert take.donor.name != take.person.name


def test_every_fake_has_its_real_source(manifest: Manifest) -> None:
    real = {(item.source, item.modality) for item in manifest.items() if item.label == 0}
    assert {(item.source, item.modality) for item in manifest.items() if item.label == 1} == real


def test_media_are_uniform(corpus: Path, manifest: Manifest) -> None:
    for item in list(manifest.items())[::3]:
        path = corpus / item.path
        if item.modality == "image":
            assert cv2.imread(str(path)).shape == (*SIZE, 3)
            continue
        frames = _frames(path)
        assert len(frames) == 60
        assert frames[0].shape == (*SIZE, 3)
        assert len(_sound(path)) == 38 * 1024
        assert item.duration_s == 2.4


def test_metadata_do_not_tell_the_classes_apart(corpus: Path, manifest: Manifest) -> None:
    clips = [item for item in manifest.items() if item.modality == "video"]
    sounds = [_sound(corpus / item.path) for item in clips]
    for name, labels in {
        "label": [item.label for item in clips],
        "video_label": [item.video_label for item in clips],
        "audio_label": [item.audio_label for item in clips],
    }.items():
        measured = {
            "size": [item.size_bytes for item in clips],
            "samples": [len(sound) for sound in sounds],
            "loudness": [np.sqrt(np.mean(sound**2)) for sound in sounds],
            "peak": [np.abs(sound).max() for sound in sounds],
            "leading silence": [_leading_silence_s(sound) for sound in sounds],
            "file name": [int(Path(item.path).stem, 16) for item in clips],
        }
        for what, values in measured.items():
            # With 12 against 24 clips, chance alone spreads by 0.1.
            assert 0.25 <= roc_auc_score(labels, values) <= 0.75, (name, what)


def test_forged_streams_differ_from_their_source_and_true_ones_do_not(corpus: Path, manifest: Manifest) -> None:
    takes: dict[str, dict[str | None, str]] = {}
    for item in manifest.items():
        if item.modality == "video":
            takes.setdefault(str(item.source), {})[item.method] = item.path
    for clips in list(takes.values())[:2]:
        real = {"picture": _frames(corpus / clips[None]), "sound": _sound(corpus / clips[None])}
        for method in clips.keys() - {None}:
            path = corpus / clips[method]
            change = np.abs(np.stack(_frames(path)).astype(int) - np.stack(real["picture"])).mean(axis=(0, 3))
            if "splice" in str(method):
                assert change[80:180, 90:166].mean() > 3 * change[:20].mean()
            else:
                assert change.max() == 0
            same_sound = np.array_equal(_sound(path), real["sound"])
            assert same_sound == (method == "splice")


def test_shifted_sound_leads_or_lags_by_a_third_of_a_second(corpus: Path, manifest: Manifest) -> None:
    real = {item.source: item.path for item in manifest.items() if item.label == 0 and item.modality == "video"}
    for item in manifest.items():
        if item.method == "sync-shift":
            ours = _leading_silence_s(_sound(corpus / item.path))
            theirs = _leading_silence_s(_sound(corpus / real[item.source]))
            assert 0.25 < abs(ours - theirs) < 0.55


def test_the_same_seed_gives_the_same_bytes_on_one_core_and_in_a_smaller_corpus(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    calls: list[tuple[int, int]] = []
    table = write_corpus(tmp_path, 6, 3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 6) for n in range(1, 7)]
    rows = table.read_text().splitlines()
    assert set(rows) <= set((corpus / "meta.csv").read_text().splitlines())
    for row in csv.DictReader(rows):
        assert (tmp_path / row["path"]).read_bytes() == (corpus / row["path"]).read_bytes()


def test_griffin_lim_keeps_the_spectrum_and_loses_the_phase() -> None:
    rng = np.random.default_rng(0)
    spoken = demo_voice.speak(demo_voice.new_voice(rng), demo_voice.new_script(rng), rng)
    dry = demo_voice.place(spoken, 0.4)
    copy = demo_voice.griffin_lim(dry, rng)
    ours, theirs = (np.abs(demo_voice._stft(samples)).ravel() for samples in (dry, copy))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.85
    assert abs(np.corrcoef(dry, copy)[0, 1]) < 0.5


def test_the_short_time_transform_is_inverted() -> None:
    samples = np.random.default_rng(0).standard_normal(38_400)
    again = demo_voice._istft(demo_voice._stft(samples), len(samples))
    np.testing.assert_allclose(again[:-512], samples[:-512], atol=1e-4)


@pytest.mark.parametrize(("people", "clips", "message"), [(5, 6, "n_identities is 5"), (6, 4, "multiple of 3")])
def test_impossible_sizes_are_refused(tmp_path: Path, people: int, clips: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write_corpus(tmp_path, people, clips)
