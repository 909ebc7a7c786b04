"""The helper verbs of `mmdf`: cache, weights, bench, list, doctor, demo. Thin, like those in cli.py."""

from pathlib import Path
from typing import Annotated

import typer

from mmdf.evaluate.shell import JsonOption, SeedOption, print_result

tools_app = typer.Typer()
cache_app = typer.Typer(no_args_is_help=True, help="Look into a feature store.")
weights_app = typer.Typer(
    no_args_is_help=True, help="Weights of the backbones: what is here, fetch, verify, take away."
)
bench_app = typer.Typer(no_args_is_help=True, help="Speed as ratios, measured in one run on this machine.")
tools_app.add_typer(cache_app, name="cache")
tools_app.add_typer(weights_app, name="weights")
tools_app.add_typer(bench_app, name="bench")


@cache_app.command("info", epilog="Example: mmdf cache info store")
def cache_info(store: Annotated[Path, typer.Argument(help="Folder of a store.")], json_: JsonOption = False) -> None:
    """Every feature in a store: items, steps, size, weights, precision; and what failed."""
    from mmdf.cache.describe import describe_store, to_text

    description = describe_store(store)
    print_result(json_, description, to_text(description))


@cache_app.command("verify", epilog="Example: mmdf cache verify store --level 2")
def cache_verify(
    store: Annotated[Path, typer.Argument(help="Folder of a store.")],
    level: Annotated[int, typer.Option(min=0, max=2, help="0 files, 1 checksums of chunks, 2 every row.")] = 1,
    json_: JsonOption = False,
) -> None:
    """Hold a store against its own checksums; exit code 4 if something is damaged."""
    from mmdf.cache.describe import report_to_dict, report_to_text
    from mmdf.cache.store import FeatureStore
    from mmdf.cache.verify import verify_store

    found = verify_store(FeatureStore.open(store), level)
    print_result(json_, report_to_dict(found), report_to_text(found))
    raise typer.Exit(4 if found.findings else 0)


@tools_app.command("list", epilog="Example: mmdf list backbones")
def list_(what: Annotated[str, typer.Argument(help="backbones, heads or layouts.")], json_: JsonOption = False) -> None:
    """What there is to choose from."""
    from mmdf.evaluate.catalogue import catalogue

    rows, text = catalogue(what)
    print_result(json_, {what: rows}, text)


@tools_app.command(epilog="Example: mmdf doctor")
def doctor(json_: JsonOption = False) -> None:
    """Check this machine: versions, device and precision, and which weights are here."""
    from mmdf.evaluate.catalogue import examine

    findings, text = examine()
    print_result(json_, {"findings": findings}, text)


@tools_app.command(epilog="Example: mmdf demo -o demo")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to work in.")] = Path("demo"),
    seed: SeedOption = 0,
) -> None:
    """The whole path on a corpus drawn and spoken by code: media, manifest, extract, train, evaluate, report."""
    from mmdf.evaluate.demo import run_demo

    run_demo(out, seed, typer.echo)
