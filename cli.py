"""The command `mmdf`: one thin function a verb, which parses, calls one function and prints.

Results go to stdout, progress and logs to stderr. Nothing heavy is imported before a verb needs it, so `--help` loads
no torch. Exit codes: 0 ok, 1 unexpected, 2 usage, 3 finished with failed items, 4 invalid data or cache, 5 weights not
available, 130 interrupted.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mmdf import __version__
from mmdf.cache.errors import MmdfError
from mmdf.evaluate.shell import (
    DeviceOption,
    DownloadOption,
    DtypeOption,
    JsonOption,
    ManifestArgument,
    ManifestOption,
    PluginOption,
    RootOption,
    SeedOption,
    StoreOption,
    WeightsOption,
    load_plugins,
    print_result,
    split_names,
)
from mmdf.evaluate.tools import tools_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Multimodal deepfake detection: extract embeddings once, train detection heads in minutes, evaluate honestly.",
)
manifest_app = typer.Typer(no_args_is_help=True, help="Describe a data set: one row a file, with labels and splits.")
app.add_typer(manifest_app, name="manifest")
# Without a name its verbs stand beside those below.
app.add_typer(tools_app)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything, and show tracebacks.")] = False,
) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("mmdf").setLevel(logging.DEBUG if debug else logging.WARNING)
    if version:
        typer.echo(f"mmdf {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; turn expected errors into one sentence and an exit code."""
    # Threads that wait in a spin eat the core that a decode worker needs: a third of all CPU time on 2 cores, measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(args=list(arguments) if arguments is not None else None)
    except MmdfError as error:
        if logging.getLogger("mmdf").isEnabledFor(logging.DEBUG):
            raise
        typer.echo(f"mmdf: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("mmdf: interrupted. What was committed is safe; the same command goes on from there.", err=True)
        sys.exit(130)
    sys.exit(0)


@manifest_app.command("build", epilog="Example: mmdf manifest build --layout folders ~/data/faces -o faces.parquet")
def manifest_build(
    root: Annotated[Path, typer.Argument(help="Folder of the data set, or the table.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Manifest to write.")],
    layout: Annotated[str, typer.Option(help="How the data set is laid out: `mmdf list layouts`.")] = "folders",
    dataset: Annotated[str | None, typer.Option(help="Name of the data set. Default: the name of ROOT.")] = None,
    table: Annotated[str | None, typer.Option(help="Layout table: the file's name in ROOT.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Drop rows without a file.")] = False,
    resplit: Annotated[bool, typer.Option("--resplit", help="Make new splits even if the data have some.")] = False,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """Write the manifest of a data set; splits are made where there are none."""
    from mmdf.cache.splits import describe, split_counts
    from mmdf.extract.datasets.build import build_manifest

    manifest = build_manifest(layout, root, dataset, seed, resplit, table, allow_missing=allow_missing or None)
    manifest.write(out)
    print_result(
        json_, {"manifest": str(out), "splits": split_counts(manifest)}, f"{describe(manifest)}\nWritten to {out}."
    )


@manifest_app.command("check", epilog="Example: mmdf manifest check faces.parquet")
def manifest_check(manifest: ManifestArgument, root: RootOption = None, json_: JsonOption = False) -> None:
    """Check columns, labels, paths and splits; refuse a manifest whose splits overlap."""
    from mmdf.cache.manifest import Manifest
    from mmdf.cache.splits import check_manifest, describe, split_counts

    found = Manifest.read(manifest, root)
    check_manifest(found)
    print_result(
        json_, {"manifest": str(manifest), "splits": split_counts(found)}, f"{describe(found)}\nNo overlap: good."
    )


@app.command(
    epilog="Example: mmdf extract faces.parquet -s store -b efficientnet-lite0,efficientnet-lite0/face,spectrum"
)
def extract(
    manifest: ManifestArgument,
    store: StoreOption,
    backbones: Annotated[
        str, typer.Option("--backbones", "-b", help="NAME or NAME/VIEW, comma-separated: `mmdf list backbones`.")
    ],
    weights: WeightsOption = None,
    download: DownloadOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Decode processes; 0 decodes in this one.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a forward pass; halved when memory runs out.")] = 32,
    frames: Annotated[int, typer.Option(min=1, help="Frames a video, spread evenly.")] = 16,
    frame_hz: Annotated[float | None, typer.Option(min=0.01, help="Instead: frames a second.")] = None,
    window_s: Annotated[float, typer.Option(min=0.1, help="Seconds a window of speech.")] = 4.0,
    hop_s: Annotated[float, typer.Option(min=0.05, help="Seconds from one window to the next.")] = 2.0,
    steps_hz: Annotated[float | None, typer.Option(min=0.1, help="Speech: steps a second within windows.")] = None,
    layers: Annotated[str, typer.Option(help="last, prenorm, all, or numbers such as 6,9,12.")] = "last",
    tokens: Annotated[str, typer.Option(help="Pictures: cls, mean, grid4, grid7, comma-separated.")] = "",
    no_face: Annotated[str, typer.Option(help="A picture without a face gives nothing (skip) or its frame.")] = "skip",
    augment: Annotated[int, typer.Option(min=0, help="Augmented views of every train item, beside it.")] = 0,
    seed: SeedOption = 0,
    plugin: PluginOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds a file may take to decode.")] = 120.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    compiled: Annotated[str, typer.Option("--compile", help="Backbones for torch.compile, or all.")] = "",
    faces: Annotated[str, typer.Option(help="Detector: mtcnn, or retinaface (needs pip install uniface).")] = "mtcnn",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    profile: Annotated[Path | None, typer.Option(help="Write where the time went, as JSON.")] = None,
    root: RootOption = None,
    json_: JsonOption = False,
) -> None:
    """Stage one: media to embeddings. Stop it when you like; the same command goes on from there."""
    from mmdf.extract.weights import check_weights

    load_plugins(plugin)
    chosen = split_names(backbones)
    if not dry_run:
        # Before anything heavy is imported: missing weights are told within a second.
        check_weights(chosen, weights, download)
    from mmdf.cache.manifest import Manifest
    from mmdf.extract.media.limits import Limits
    from mmdf.extract.media.sampling import Sampling
    from mmdf.extract.options import ExtractOptions
    from mmdf.extract.outputs import Outputs

    found = Manifest.read(manifest, root)
    options = ExtractOptions(
        weights, download, device, dtype, limit, batch_size, 64, workers, retry_failed,
        Sampling(
            frames, frame_hz, window_s=window_s, window_hop_s=min(hop_s, window_s), steps_hz=steps_hz,
            no_face=no_face, face_detector=faces,
        ),
        Limits(timeout_s=timeout_s), Outputs.parse(layers, tokens), augment, seed, tuple(split_names(compiled)),
    )  # fmt: skip
    if dry_run:
        from mmdf.extract.estimate import estimate

        estimated = estimate(found, store, chosen, options)
        print_result(json_, estimated.to_dict(), estimated.to_text())
        return
    from mmdf.evaluate.terminal import progress_bar
    from mmdf.extract.run import run_extract

    with progress_bar("extract", min(len(found), limit or len(found))) as progress:
        summary = run_extract(found, store, chosen, options, progress, partial(typer.echo, err=True))
    if profile is not None:
        profile.write_text(json.dumps(summary.profile(), indent=2) + "\n")
    print_result(json_, summary.to_dict(), summary.to_text())
    raise typer.Exit(3 if summary.failures else 0)


@app.command(epilog="Example: mmdf train probe -s store -m faces.parquet -o detectors/probe")
def train(
    head: Annotated[str, typer.Argument(help="Kind of head: `mmdf list heads`.")],
    store: StoreOption,
    manifest: ManifestOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the detector to write.")],
    features: Annotated[str | None, typer.Option("--features", "-f", help="Comma-separated; default all.")] = None,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """Stage two: train a head on the cached embeddings of the train split, choose everything else on val."""
    from mmdf.cache.manifest import Manifest
    from mmdf.cache.store import FeatureStore
    from mmdf.fuse.heads import heads

    heads.check(head)
    found, opened = Manifest.read(manifest), FeatureStore.open(store)
    names = split_names(features) if features else None
    from mmdf.fuse.train import train as train_head

    detector = train_head(head, opened, found, names, seed=seed)
    detector.save(out)
    print_result(json_, {"detector": str(out)} | detector.summary(), f"{detector.to_text()}\nWritten to {out}.")


@app.command(epilog="Example: mmdf predict detectors/probe -s store -m faces.parquet -o scores/probe.parquet")
def predict(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    store: StoreOption,
    manifest: ManifestOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Score table to write.")],
    split: Annotated[str | None, typer.Option(help="train, val or test; default all.")] = "test",
    json_: JsonOption = False,
) -> None:
    """Score the items of one split with a detector."""
    from mmdf.cache.manifest import Manifest
    from mmdf.cache.store import FeatureStore

    found = Manifest.read(manifest).require_split(split)
    opened = FeatureStore.open(store)
    from mmdf.fuse.detector import Detector

    table = Detector.load(detector).predict(opened, found)
    table.write(out)
    n_scored = len(found) - table.table.column("score").null_count
    print_result(
        json_, {"scores": str(out), "items": len(found), "scored": n_scored}, f"Scored {n_scored} of {len(found)}."
    )


@app.command(epilog="Example: mmdf evaluate scores/probe.parquet")
def evaluate(
    scores: Annotated[Path, typer.Argument(help="Score table, made by `mmdf predict`.")],
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples for the intervals.")] = 1000,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """All metrics of one score table, overall and by method, each with a 95 % interval."""
    from mmdf.cache.scores import ScoreTable
    from mmdf.evaluate.assess import assess, to_text

    assessment = assess(ScoreTable.read(scores), resamples, seed)
    print_result(json_, assessment.to_dict(), to_text(assessment))


@app.command(epilog="Example: mmdf report scores/probe.parquet scores/late.parquet -o report")
def report(
    scores: Annotated[list[Path], typer.Argument(help="Score tables on the same items, one a detector.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")],
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Detectors compared",
    json_: JsonOption = False,
) -> None:
    """A page with tables, ROC curves, confusion matrices and failure cases: open report/index.html."""
    from mmdf.cache.scores import ScoreTable
    from mmdf.evaluate.report import named_by_file, write_report

    tables = {name: ScoreTable.read(path) for name, path in named_by_file(scores).items()}
    page = write_report(out, tables, title)
    print_result(json_, {"report": str(page)}, f"Written to {page}.")


@app.command(epilog="Example: mmdf detect interview.mp4 photo.jpg -d detectors/late")
def detect(
    files: Annotated[list[Path], typer.Argument(help="Images, sound files or videos.")],
    detector: Annotated[Path, typer.Option("--detector", "-d", envvar="MMDF_DETECTOR", help="Folder of a detector.")],
    weights: WeightsOption = None,
    download: DownloadOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """One answer a file: fake, real, or cannot say, with the calibrated score."""
    from mmdf.evaluate.detect import detect as detect_files
    from mmdf.extract.options import ExtractOptions

    load_plugins(plugin)
    options = ExtractOptions(weights, download, device, dtype)
    verdicts = detect_files(detector, files, options)
    document = {"detector": str(detector), "verdicts": [verdict.to_dict() for verdict in verdicts]}
    print_result(json_, document, "\n".join(verdict.to_text() for verdict in verdicts))
    raise typer.Exit(3 if any(verdict.score is None for verdict in verdicts) else 0)
