"""`mmdf demo`: the whole path on a corpus drawn and spoken by code, each step shown as the command it stands for.

It shows that the machine works from media to verdict. It shows nothing about deepfakes: the corpus is synthetic.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdf.cache.manifest import Manifest
from mmdf.cache.scores import ScoreTable
from mmdf.cache.splits import describe
from mmdf.cache.store import FeatureStore
from mmdf.evaluate.assess import assess, to_text
from mmdf.evaluate.report import write_report
from mmdf.evaluate.terminal import progress_bar
from mmdf.extract.datasets.build import build_manifest
from mmdf.extract.datasets.demo import TAKE_CLIPS, write_corpus
from mmdf.extract.media.sampling import Sampling
from mmdf.extract.options import ExtractOptions
from mmdf.extract.run import run_extract
from mmdf.fuse.train import train

BACKBONES = ("efficientnet-lite0", "spectrum", "motion", "lfcc", "logmel")
IDENTITIES, CLIPS_EACH = 24, 6
# Half of the default, so that the demo is over while somebody watches.
FRAMES = 8
HEADS = ("probe", "early", "late")
NOTES = (
    "The corpus is synthetic: cartoon figures with made-up voices, drawn by `mmdf demo`. These scores say that the "
    "path from media to report works. They say nothing about real deepfakes.",
    "Read the rows of griffin-lim and sync-shift with care: their items are clips, while half of the real items are "
    "stills, fake less often. No head here compares sound and picture over time, so sync-shift should be near "
    "chance among clips.",
)


def run_demo(folder: Path, seed: int, say: Callable[[str], None]) -> Path:
    """Run every stage below `folder` and return the page. Run again, it goes on where it was.

    Parameters
    ----------
    say
        Prints one line.
    """
    seconds: dict[str, float] = {}
    store_path, manifest_path = folder / "store", folder / "demo.parquet"

    def step(name: str, command: str, work: Callable[[], Any]) -> Any:
        say(f"\n$ {command}")
        started = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - started
        say(f"  ({seconds[name]:.1f} s)")
        return result

    say("A synthetic corpus: clips of drawn, talking figures in four categories, and stills.")
    media = step("draw and speak", f"mmdf demo -o {folder}", lambda: _corpus(folder, seed))
    command = f"mmdf manifest build --layout table {folder / 'media'} -o {manifest_path}"
    manifest = step("manifest", command, lambda: _manifest(media, manifest_path, say))
    command = f"mmdf extract {manifest_path} -s {store_path} -b {','.join(BACKBONES)} --frames {FRAMES}"
    step("extract", command, lambda: _extract(manifest, store_path, say))
    tables = {}
    for head in HEADS:
        command = f"mmdf train {head} -s {store_path} -m {manifest_path} -o {folder / 'detectors' / head}"
        work = lambda head=head: _train(head, manifest, store_path, folder, seed)  # noqa: E731
        tables[head] = step(f"train {head}", command, work)
    say("\n$ mmdf evaluate " + str(folder / "scores" / f"{HEADS[-1]}.parquet"))
    say(to_text(assess(tables[HEADS[-1]])))
    say(f"\n$ mmdf report {folder / 'scores'}/*.parquet -o {folder / 'report'}")
    page = write_report(folder / "report", tables, "mmdf demo: a synthetic corpus", NOTES, seconds)
    say(_last_words(folder, page, manifest))
    return page


def _corpus(folder: Path, seed: int) -> Path:
    table = folder / "media" / "meta.csv"
    if table.is_file():
        return table.parent
    with progress_bar("draw and speak", IDENTITIES * CLIPS_EACH // TAKE_CLIPS) as progress:
        media = folder / "media"
        return write_corpus(media, IDENTITIES, CLIPS_EACH, seed, lambda done, total: progress(1, 0)).parent


def _manifest(media: Path, path: Path, say: Callable[[str], None]) -> Manifest:
    manifest = build_manifest("table", media, "demo")
    manifest.write(path)
    say(describe(manifest))
    return manifest


def _extract(manifest: Manifest, store: Path, say: Callable[[str], None]) -> None:
    with progress_bar("extract", len(manifest)) as progress:
        options = ExtractOptions(sampling=Sampling(frames=FRAMES))
        summary = run_extract(manifest, store, BACKBONES, options, progress, say)
    say(summary.to_text())


def _train(head: str, manifest: Manifest, store_path: Path, folder: Path, seed: int) -> ScoreTable:
    store = FeatureStore.open(store_path)
    detector = train(head, store, manifest, seed=seed)
    detector.save(folder / "detectors" / head)
    table = detector.predict(store, manifest.split("test"))
    table.write(folder / "scores" / f"{head}.parquet")
    return table


def _last_words(folder: Path, page: Path, manifest: Manifest) -> str:
    fake = next(item for item in manifest.split("test").items() if item.label == 1 and item.modality == "video")
    return (
        f"\nLook at {page}.\nThe corpus is synthetic; for an answer about one file:\n"
        f"  mmdf detect {manifest.file(fake)} -d {folder / 'detectors' / HEADS[-1]}\n"
        "For data of your own, with a folder of real and one of fake files:\n"
        f"  mmdf manifest build --layout folders ROOT -o data.parquet\n"
        f"  mmdf extract data.parquet -s store -b {','.join(BACKBONES)}\n"
        "  mmdf train late -s store -m data.parquet -o detectors/late"
    )
