"""`mmdf bench extract` as one function: make media and checkpoints, let ours and the references take turns, compare."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmdf.cache.errors import WeightsError
from mmdf.cache.manifest import Manifest
from mmdf.extract.backbones import CARDS
from mmdf.extract.backbones.base import Backbone
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.bench import media
from mmdf.extract.bench.checkpoints import save_checkpoints
from mmdf.extract.bench.decoders import CONTESTS, per_core
from mmdf.extract.bench.machine import Meter, machine
from mmdf.extract.bench.memory import peak_of_extraction
from mmdf.extract.bench.plain import plain_seconds
from mmdf.extract.bench.results import BenchReport, Line
from mmdf.extract.bench.timed import Extracted, bare, extract, in_turn, preloaded, seconds_of
from mmdf.extract.bench.workload import (
    MEMORY,
    NOTEBOOK,
    ONE_PASS,
    THROUGHPUT,
    THROUGHPUT_FAMILIES,
    BenchOptions,
)
from mmdf.extract.device import choose_compute
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.options import ExtractOptions
from mmdf.extract.summary import DECODING
from mmdf.extract.weights import find_weights

Say = Callable[[str], None]
_WARM_UP_ITEMS = 2


def bench_extract(options: BenchOptions, say: Say = lambda text: None) -> BenchReport:
    """Run the parts that `options` names. The full workload takes half an hour on 2 cores without half precision.

    Parameters
    ----------
    say
        Called with a line of text for people before each measurement.

    Raises
    ------
    WeightsError
        If a backbone's weights come with a package that is not installed.
    """
    started, meter = time.perf_counter(), Meter()
    kept = nullcontext(str(options.folder)) if options.folder else tempfile.TemporaryDirectory(prefix="mmdf-bench-")
    with kept as folder:
        bench = Bench(options, Path(folder), say)
        lines = bench.run()
    total_s = time.perf_counter() - started
    return BenchReport(bench.machine, bench.described(), tuple(lines), total_s, meter.others_share())


class Bench:
    """One run of the benchmark in one folder.

    Parameters
    ----------
    folder
        Media and checkpoints are made in here where they are not yet; stores are made and thrown away.
    """

    def __init__(self, options: BenchOptions, folder: Path, say: Say) -> None:
        self._options, self._work, self._folder, self._say = options, options.workload, folder, say
        self._folder.mkdir(parents=True, exist_ok=True)
        self._compute = choose_compute(options.device, options.dtype)
        self._extract = ExtractOptions(
            n_workers=options.n_workers, batch_rows=self._work.batch_rows, sampling=Sampling(frames=self._work.frames)
        )
        # Of (c), by what was extracted: files, seconds of ours, seconds of the plain loop.
        self._notebook: dict[str, tuple[int, float, float]] = {}
        self._described: list[str] = []
        self.machine = machine(str(self._compute.device.type), str(self._compute.dtype).removeprefix("torch."))

    def described(self) -> tuple[str, ...]:
        """What was run, in words."""
        work = self._work
        head = f"Batches of {work.batch_rows}, median of {work.repeats}, {self._extract.n_workers} decode worker(s)."
        return (head, *self._described)

    def run(self) -> list[Line]:
        """The lines of all parts that are wanted, in the order of the parts."""
        wanted = self._options.parts
        # Memory first, while this process is small: on some systems a child's peak begins with its parent's.
        lines = self._memory() if "e" in wanted else []
        if "d" in wanted:
            lines += self._decoders()
        if {"a", "c"} & set(wanted):
            lines += self._images() + self._sounds()
        if {"b", "c"} & set(wanted):
            lines += self._film_lines()
        return sorted(lines + self._overall(), key=lambda line: line.part)

    def _images(self) -> list[Line]:
        work = self._work
        manifest = self._media(media.images(self._folder, work.n_images, work.image_px), f"JPEGs of {work.image_px} px")
        names = work.pictures if "a" in self._options.parts else work.pictures[:1]
        lines = [self._one_backbone(name, manifest) for name in names]
        return [line for found in lines for line in found]

    def _sounds(self) -> list[Line]:
        work = self._work
        what = f"wavs of {work.sound_s[0]:g} to {work.sound_s[1]:g} s"
        manifest = self._media(media.sounds(self._folder, work.n_sounds, *work.sound_s), what)
        names = work.speech if "a" in self._options.parts else work.speech[:1]
        lines = [self._one_backbone(name, manifest) for name in names]
        return [line for found in lines for line in found]

    def _one_backbone(self, name: str, manifest: Manifest) -> list[Line]:
        """(a) of one backbone; the first of its modality is also in (c)."""
        backbone = self._load(name)
        runs: list[Extracted] = []
        contestants: dict[str, Callable[[], float]] = {"ours": partial(self._ours, manifest, [backbone], runs)}
        n_rows = 0
        if "a" in self._options.parts:
            inputs = preloaded(manifest, backbone, self._compute.device, self._extract)
            n_rows = len(inputs)
            bare(backbone, inputs[: self._work.batch_rows], self._work.batch_rows)
            contestants["bare"] = partial(seconds_of, partial(bare, backbone, inputs, self._work.batch_rows))
        if "c" in self._options.parts and name in (self._work.pictures[0], self._work.speech[0]):
            contestants["plain"] = self._plain(manifest, [name])
        self._say(f"{name}: {', '.join(contestants)} in turn")
        self._ours(manifest, [backbone], [], _WARM_UP_ITEMS)
        seconds = in_turn(contestants, self._work.repeats)
        if "plain" in seconds:
            kind = "images" if backbone.spec.stream == "picture" else "wavs"
            self._notebook[f"{kind}, {name}"] = (len(manifest), seconds["ours"], seconds["plain"])
        if "bare" not in seconds:
            return []
        target = THROUGHPUT if CARDS[name].family in THROUGHPUT_FAMILIES else None
        note = _where(runs[-1], seconds["bare"])
        return [Line("a", name, "rows/s", n_rows / seconds["ours"], n_rows / seconds["bare"], target, note)]

    def _film_lines(self) -> list[Line]:
        work = self._work
        what = f"H.264 films of {work.film_s:g} s at {work.film_px[0]}x{work.film_px[1]}, {media.FILM_RATE_HZ} Hz"
        manifest = self._media(media.films(self._folder, work.n_films, work.film_s, *work.film_px), what)
        backbones = {name: self._load(name) for name in work.pictures}
        contestants: dict[str, Callable[[], float]] = {}
        runs: list[Extracted] = []
        contestants["together"] = partial(self._ours, manifest, list(backbones.values()), runs)
        if "b" in self._options.parts:
            contestants |= {name: partial(self._ours, manifest, [b], []) for name, b in backbones.items()}
        if "c" in self._options.parts:
            contestants["plain"] = self._plain(manifest, work.pictures)
        self._say(f"films: {', '.join(contestants)} in turn")
        self._ours(manifest, list(backbones.values()), [], 1)
        seconds = in_turn(contestants, work.repeats)
        if "plain" in seconds:
            self._notebook[f"films, {len(backbones)} backbones"] = (
                len(manifest), seconds["together"], seconds["plain"],
            )  # fmt: skip
        if "b" not in self._options.parts:
            return []
        alone = {name: seconds[name] for name in backbones}
        note = "alone " + ", ".join(f"{name} {s:.1f} s" for name, s in alone.items()) + f"; {_where(runs[-1])}"
        what = f"{len(backbones)} backbones, {len(manifest)} films"
        return [Line("b", what, "s", seconds["together"], sum(alone.values()), ONE_PASS, note)]

    def _overall(self) -> list[Line]:
        if not self._notebook:
            return []
        pairs = self._notebook.items()
        found = [Line("c", what, "files/s", n / ours_s, n / plain_s) for what, (n, ours_s, plain_s) in pairs]
        n = sum(pair[0] for pair in self._notebook.values())
        ours_s, plain_s = (sum(pair[column] for pair in self._notebook.values()) for column in (1, 2))
        note = "all seconds of the plain loops over all of ours"
        return [*found, Line("c", "overall", "files/s", n / ours_s, n / plain_s, NOTEBOOK, note)]

    def _decoders(self) -> list[Line]:
        work = self._work
        films = media.films(self._folder, work.n_films, work.film_s, *work.film_px)
        stills = media.images(self._folder, work.n_images, work.image_px)
        sounds = media.sounds(self._folder, work.n_sounds, *work.sound_s)
        manifests = {"film": films, "film-16": films, "image": stills, "sound": sounds}
        lines = []
        for kind, (what, unit, name, ours, others) in CONTESTS.items():
            self._say(f"decoders: {what} of {manifests[kind].root.name}")
            files = [manifests[kind].file(item) for item in manifests[kind].items()]
            mine = per_core(ours, files)
            lines += [
                Line("d", f"{what}, {name} over {other}", unit, mine, per_core(decoder, files))
                for other, decoder in others.items()
            ]
        return lines

    def _memory(self) -> list[Line]:
        work = self._work
        few, many = work.memory_items
        manifest = media.images(self._folder, many, 64)
        self._say(f"memory: {work.memory_backbone} on {few} and on {many} images, each in a process of its own")
        settings: dict[str, Any] = {
            "device": self._options.device, "dtype": self._options.dtype, "n_workers": self._options.n_workers,
            "weights_dir": self._weights_dir(work.memory_backbone),
        }  # fmt: skip

        def peak_mb(n_items: int) -> float:
            return peak_of_extraction(manifest, [work.memory_backbone], n_items, self._folder, **settings)

        what = f"{work.memory_backbone}, {many} images over {few}"
        return [Line("e", what, "MB", peak_mb(many), peak_mb(few), MEMORY, "main process and decode workers together")]

    def _ours(self, manifest: Manifest, backbones: list[Backbone], runs: list[Extracted], limit: int = 0) -> float:
        chosen = manifest.take(torch.arange(limit).numpy()) if limit else manifest
        runs.append(extract(chosen, backbones, self._compute.device, self._extract, self._folder))
        return runs[-1].seconds

    def _plain(self, manifest: Manifest, names: Sequence[str]) -> Callable[[], float]:
        items = list(manifest.items())
        files = [manifest.file(item) for item in items]
        weights_dirs = {name: self._weights_dir(name) for name in names}
        return partial(plain_seconds, items[0].modality, files, weights_dirs, self._work.frames)

    def _load(self, name: str) -> Backbone:
        return load_backbones([name], self._compute, self._extract.sampling, self._weights_dir(name))[0]

    def _weights_dir(self, name: str) -> Path | None:
        """The folder given on the command line if it has `name`, else one with random weights."""
        if self._options.weights_dir is not None:
            try:
                find_weights(CARDS[name], self._options.weights_dir)
            except WeightsError:
                self._say(f"{name}: no weights in {self._options.weights_dir}; random ones instead")
            else:
                return self._options.weights_dir
        folder = self._folder / ("checkpoints-tiny" if self._work.tiny else "checkpoints")
        return save_checkpoints(folder, [name], self._work.tiny)

    def _media(self, manifest: Manifest, what: str) -> Manifest:
        each_kb = media.bytes_of(manifest) / len(manifest) / 1000
        self._described.append(f"{len(manifest)} {what} ({each_kb:.0f} kB each).")
        return manifest


def _where(run: Extracted, bare_s: float = 0.0) -> str:
    """Where the time of one run went, in words."""
    stages: Mapping[str, float] = run.summary.clock.seconds
    spent = {name: s - (run.startup_s if name == DECODING else 0) for name, s in stages.items()}
    parts = [f"{name} {s:.2f} s" for name, s in spent.items()] + ([f"the bare pass {bare_s:.2f} s"] if bare_s else [])
    outside = f"start-up {run.startup_s:.1f} s and shutdown {run.shutdown_s:.1f} s not counted"
    return f"{', '.join(parts)}; decode worker {run.summary.worker_s:.1f} s beside that; {outside}"
