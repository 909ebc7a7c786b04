"""The helper verbs of `mmdf`: weights, bench, list, doctor, demo. Thin, like those in cli.py."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmdf.evaluate.cache_verbs import cache_app
from mmdf.evaluate.shell import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    PluginOption,
    SeedOption,
    WeightsOption,
    load_plugins,
    print_result,
    split_names,
)

if TYPE_CHECKING:
    from mmdf.extract.stock import Stocked

tools_app = typer.Typer()
weights_app = typer.Typer(
    no_args_is_help=True, help="Weights of the backbones: what is here, fetch, verify, take away."
)
bench_app = typer.Typer(no_args_is_help=True, help="Speed as ratios, measured in one run on this machine.")
tools_app.add_typer(cache_app, name="cache")
tools_app.add_typer(weights_app, name="weights")
tools_app.add_typer(bench_app, name="bench")


NamesArgument = Annotated[list[str] | None, typer.Argument(help="Backbones; default all that have weights.")]


@weights_app.command("list", epilog="Example: mmdf weights list")
def weights_list(chosen: NamesArgument = None, weights: WeightsOption = None, json_: JsonOption = False) -> None:
    """Which weights are on this machine, and where."""
    from mmdf.extract.stock import take_stock

    _print_stock(take_stock(chosen or (), weights), json_)


@weights_app.command("fetch", epilog="Example: mmdf weights fetch clip-vit-b32 wav2vec2-base")
def weights_fetch(
    chosen: Annotated[list[str], typer.Argument(help="Backbones to fetch.")], json_: JsonOption = False
) -> None:
    """Download weights at their pinned revision into the cache of the Hugging Face hub, or of torch."""
    from mmdf.extract.stock import fetch_all

    _print_stock(fetch_all(chosen), json_)


@weights_app.command("verify", epilog="Example: mmdf weights verify --weights weights")
def weights_verify(chosen: NamesArgument = None, weights: WeightsOption = None, json_: JsonOption = False) -> None:
    """Hash the weights that are here and hold them against what was published; exit code 4 if any differ."""
    from mmdf.extract.stock import verify

    found = verify(chosen or (), weights)
    _print_stock(found, json_)
    raise typer.Exit(4 if any(one.state == "differs" for one in found) else 0)


@weights_app.command("export", epilog="Example: mmdf weights export weights clip-vit-b32 wav2vec2-base")
def weights_export(
    out: Annotated[Path, typer.Argument(help="Folder to write, for --weights on another machine.")],
    chosen: NamesArgument = None,
    weights: WeightsOption = None,
    json_: JsonOption = False,
) -> None:
    """Copy weights into a folder for a machine without a network."""
    from mmdf.extract.stock import export

    _print_stock(export(out, chosen or (), weights), json_)


def _print_stock(stock: "Sequence[Stocked]", as_json: bool) -> None:
    print_result(as_json, {"weights": [one.to_dict() for one in stock]}, "\n".join(one.to_text() for one in stock))


@bench_app.command("extract", epilog="Example: mmdf bench extract --out bench --markdown")
def bench_extract(
    only: Annotated[str, typer.Option(help="Parts to run, comma-separated: a, b, c, d, e.")] = "a,b,c,d,e",
    out: Annotated[Path | None, typer.Option(help="Keep media and random weights here for the next run.")] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Decode processes; 0 decodes in this one.")] = 1,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds of which the median counts.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models, few items: shows that it runs.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables for docs/performance.md.")] = False,
    json_: JsonOption = False,
) -> None:
    """Stage one against the bare forward pass, separate passes and a plain loop, as ratios. Half an hour on 2 cores."""
    from mmdf.extract.bench.workload import BenchOptions

    options = BenchOptions(tuple(split_names(only)), quick, weights, out, device, dtype, workers, repeats)
    from mmdf.extract.bench.run import bench_extract as run_bench

    report = run_bench(options, partial(typer.echo, err=True))
    print_result(json_, report.to_dict(), report.to_markdown() if markdown else report.to_text())


@tools_app.command("list", epilog="Example: mmdf list backbones")
def list_(
    what: Annotated[str, typer.Argument(help="backbones, heads or layouts.")],
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """What there is to choose from."""
    load_plugins(plugin)
    from mmdf.evaluate.catalogue import catalogue

    rows, text = catalogue(what)
    print_result(json_, {what: rows}, text)


@tools_app.command(epilog="Example: mmdf doctor")
def doctor(json_: JsonOption = False) -> None:
    """Check this machine: versions, device, decoders, faces, disk, weights. Exit code 1 if anything is FAIL."""
    from mmdf.evaluate.doctor import examine

    findings = examine()
    document = {"findings": [vars(finding) for finding in findings]}
    print_result(json_, document, "\n".join(finding.to_text() for finding in findings))
    raise typer.Exit(1 if any(finding.state == "FAIL" for finding in findings) else 0)


@tools_app.command(epilog="Example: mmdf demo -o demo")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to work in.")] = Path("demo"),
    seed: SeedOption = 0,
) -> None:
    """The whole path on a corpus drawn and spoken by code: media, manifest, extract, train, evaluate, report."""
    from mmdf.evaluate.demo import run_demo

    run_demo(out, seed, typer.echo)
