"""A small audio-visual corpus made by code: drawn people who talk, and four kinds of forgery of them.

The categories are those of FakeAVCeleb (Khalid et al., 2021), beside stills. It exists to try the whole pipe without a
download, and says nothing about real forgeries. Real and fake pass the same camera, microphone and encoder.
"""

import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmdf.cache.errors import UsageError
from mmdf.extract.datasets import demo_voice
from mmdf.extract.datasets.demo_camera import Camera, new_camera, splice, write_clip, write_still
from mmdf.extract.datasets.demo_figure import Figure, Performance, new_figure, render
from mmdf.extract.datasets.demo_voice import CLIP_S, RATE_HZ, SPEECH_S, Script, Utterance, Voice

FRAME_RATE_HZ = 25
TAKE_CLIPS = 3
MIN_IDENTITIES = 6
_N_FRAMES = round(CLIP_S * FRAME_RATE_HZ)
_LEADS_S = (0.05, 0.85)
_TABLE = "meta.csv"
_MAX_THREADS = 8


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    path: str
    dataset: str
    modality: str
    label: str
    video_label: str
    audio_label: str
    method: str
    family: str
    identity: str
    source: str
    pair_key: str
    split: str
    duration_s: str


@dataclass(frozen=True)
class _Person:
    name: str
    split: str
    figure: Figure
    voice: Voice


@dataclass(frozen=True)
class _Take:
    """One real recording and what is forged from it."""

    person: _Person
    donor: _Person
    number: int
    seed: tuple[int, int, int]

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of one purpose, the same whatever else is drawn."""
        return np.random.default_rng([*self.seed, purpose])

    def name(self, method: str) -> str:
        """A file name that tells nothing."""
        return hashlib.blake2b(f"{self.seed}/{method}".encode(), digest_size=6).hexdigest()


# Method to whether picture and sound are fake, and the family. Every take has two of these, in turn.
_METHODS = {
    "": (False, False, ""),
    "splice": (True, False, "face-swap"),
    "griffin-lim": (False, True, "voice-conversion"),
    "sync-shift": (False, True, "lip-sync"),
    "splice+griffin-lim": (True, True, "both"),
}
_TURNS = (("", "splice", "griffin-lim"), ("", "sync-shift", "splice+griffin-lim"))


def write_corpus(
    folder: Path,
    n_identities: int = 12,
    clips_per_identity: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the corpus and return its table, to be read by the layout `table`.

    Every third clip is real; each real clip has two forgeries, so they share picture, words or both with it
    (`source`, `pair_key`). Clips: 2.4 s, 256 px, 25 fps H.264, 16 kHz mono AAC. Beside each real clip there are two
    JPEG stills, one real and one spliced. Identities and the donors of their spliced faces stay in one split.
    The same arguments give the same bytes on one machine, whatever its number of cores.

    Parameters
    ----------
    folder
        Written to; files of the same names are replaced, the table last.
    n_identities
        At least 6, since each of three splits needs a person and a donor.
    clips_per_identity
        A multiple of 3; from 6 on every method occurs.
    progress
        Called with the number of finished and of all takes (three clips and two stills each).
    """
    if n_identities < MIN_IDENTITIES:
        raise UsageError(
            f"n_identities is {n_identities}. Each split needs two people: ask for {MIN_IDENTITIES} or more."
        )
    if clips_per_identity < TAKE_CLIPS or clips_per_identity % TAKE_CLIPS:
        raise UsageError(f"clips_per_identity is {clips_per_identity}. Ask for a multiple of {TAKE_CLIPS}.")
    takes = list(_takes(_people(n_identities, seed), clips_per_identity // TAKE_CLIPS, seed))
    for name in ("stills", *{_category(method) for method in _METHODS}):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    # Drawing, filtering and encoding let go of the interpreter lock, so threads do.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_THREADS)) as pool:
        for done, made in enumerate(pool.map(lambda take: _write_take(folder, take), takes), start=1):
            rows.extend(made)
            if progress is not None:
                progress(done, len(takes))
    return _write_table(folder / _TABLE, rows)


def _people(n_identities: int, seed: int) -> list[_Person]:
    # A quarter for validation: calibration needs some items a class there, of each stream.
    n_val = n_test = max(2, round(0.25 * n_identities))
    splits = ["train"] * (n_identities - n_val - n_test) + ["val"] * n_val + ["test"] * n_test
    people = []
    for number, split in enumerate(splits):
        rng = np.random.default_rng([seed, number])
        people.append(_Person(f"person-{number + 1:02d}", split, new_figure(rng), demo_voice.new_voice(rng)))
    return people


def _takes(people: list[_Person], takes_per_identity: int, seed: int) -> Iterator[_Take]:
    for number, person in enumerate(people):
        others = [other for other in people if other.split == person.split and other is not person]
        for take in range(takes_per_identity):
            rng = np.random.default_rng([seed, number, take])
            yield _Take(person, others[rng.integers(len(others))], take, (seed, number, take))


def _write_take(folder: Path, take: _Take) -> list[Row]:
    script = demo_voice.new_script(take.rng(0))
    utterance = demo_voice.speak(take.person.voice, script, take.rng(1))
    lead_s = take.rng(2).uniform(*_LEADS_S)
    performance = _perform(utterance, lead_s, _N_FRAMES, take.rng(3))
    camera = new_camera(take.rng(4))
    real = [render(take.person.figure, performance, frame) for frame in range(_N_FRAMES)]
    shot = camera.shoot(real, take.rng(5))
    spliced = _spliced(take, performance, camera, shot, take.rng(6))
    dry = demo_voice.place(utterance, lead_s)
    rows = []
    for method in _TURNS[take.number % len(_TURNS)]:
        video_fake, _, _ = _METHODS[method]
        path = f"{_category(method)}/{take.name(method)}.mp4"
        sound = demo_voice.record(_sound(take, method, dry, script, lead_s), take.rng(7))
        write_clip(folder / path, spliced if video_fake else shot, FRAME_RATE_HZ, sound, RATE_HZ)
        rows.append(_row(take, method, path, "video"))
    return rows + _write_stills(folder, take)


def _sound(take: _Take, method: str, dry: np.ndarray, script: Script, lead_s: float) -> np.ndarray:
    if "griffin-lim" in method:
        return demo_voice.griffin_lim(dry, take.rng(8))
    if method != "sync-shift":
        return dry
    # Turned round the range of leads, so that the shifted lead is as uniform as the true one and no silence tells.
    first_s, last_s = _LEADS_S
    shift_s = take.rng(9).uniform(0.3, 0.5)
    shifted_s = first_s + (lead_s - first_s + shift_s) % (last_s - first_s)
    return demo_voice.place(demo_voice.speak(take.person.voice, script, take.rng(1)), shifted_s)


def _spliced(
    take: _Take, performance: Performance, camera: Camera, shot: list[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    donor = (camera.develop(render(take.donor.figure, performance, frame)) for frame in range(len(performance)))
    return splice(shot, donor, performance, rng)


def _write_stills(folder: Path, take: _Take) -> list[Row]:
    silence = Utterance(np.zeros(0), np.full(300, take.rng(10).uniform(0, 0.6)), np.full(300, take.rng(11).random()))
    performance = _perform(silence, -SPEECH_S / 2, 1, take.rng(12))
    camera = new_camera(take.rng(13))
    shot = camera.shoot([render(take.person.figure, performance, 0)], take.rng(14))
    pictures = {"": shot, "splice": _spliced(take, performance, camera, shot, take.rng(15))}
    rows = []
    for method, frames in pictures.items():
        path = f"stills/{take.name('still' + method)}.jpg"
        write_still(folder / path, frames[0])
        rows.append(_row(take, method, path, "image"))
    return rows


def _perform(utterance: Utterance, lead_s: float, n_frames: int, rng: np.random.Generator) -> Performance:
    """Lips that follow the speech, a head that sways, eyes that blink now and then."""
    time_s = np.arange(n_frames) / FRAME_RATE_HZ
    speech_s = lead_s + (np.arange(len(utterance.opening)) + 0.5) * SPEECH_S / len(utterance.opening)

    def sway(amplitude: float) -> np.ndarray:
        waves = [
            np.sin(2 * np.pi * (rng.uniform(0.15, 0.6) * time_s + rng.random())) * rng.uniform(0.4, 1) for _ in range(3)
        ]
        return amplitude * np.sum(waves, axis=0) / 2

    blinks = [np.clip(1 - np.abs(time_s - centre_s) / 0.13, 0, 1) for centre_s in rng.uniform(-0.8, CLIP_S, 2)]
    return Performance(
        x_px=sway(7),
        y_px=sway(4),
        roll_rad=sway(0.07),
        zoom=1.02 + rng.uniform(-0.05, 0.07) + sway(0.02),
        yaw=np.clip(sway(0.9), -1, 1),
        blink=np.maximum.reduce(blinks),
        gaze=np.clip(sway(0.8), -1, 1),
        opening=np.interp(time_s, speech_s, utterance.opening, 0, 0),
        rounding=np.interp(time_s, speech_s, utterance.rounding, 0, 0),
    )


def _category(method: str) -> str:
    video_fake, audio_fake, _ = _METHODS[method]
    return f"{'Fake' if video_fake else 'Real'}Video-{'Fake' if audio_fake else 'Real'}Audio"


def _row(take: _Take, method: str, path: str, modality: str) -> Row:
    video_fake, audio_fake, family = _METHODS[method]
    words = ("real", "fake")
    kind = "still" if modality == "image" else ""
    return Row(
        path=path,
        dataset="demo",
        modality=modality,
        label=words[video_fake or audio_fake],
        video_label=words[video_fake],
        # Moved sound is genuine: the lie is in the pairing, which no stream alone can know.
        audio_label="" if modality == "image" else words[audio_fake and method != "sync-shift"],
        method=method,
        family=family,
        identity=take.person.name,
        source=take.name(kind),
        pair_key=take.name(kind),
        split=take.person.split,
        duration_s="" if modality == "image" else f"{CLIP_S}",
    )


def _write_table(path: Path, rows: list[Row]) -> Path:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*Row.__dataclass_fields__], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows, key=lambda row: row.path))
    return temporary.replace(path)
