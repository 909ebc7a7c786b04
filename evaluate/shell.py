"""Options that several verbs share, and how results are printed. Knows no verb."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ManifestArgument = Annotated[Path, typer.Argument(help="Manifest, made by `mmdf manifest build`.")]
ManifestOption = Annotated[Path, typer.Option("--manifest", "-m", help="Manifest, made by `mmdf manifest build`.")]
StoreOption = Annotated[Path, typer.Option("--store", "-s", help="Folder of the feature store.")]
RootOption = Annotated[Path | None, typer.Option(help="Root of the media, if they have moved since.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="Folder with weights, instead of the hub cache.")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch missing weights from the Hugging Face hub.")]
DeviceOption = Annotated[str, typer.Option(envvar="MMDF_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
SeedOption = Annotated[int, typer.Option(help="Of everything random here.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file that registers backbones; may be given again.")
]


def print_result(as_json: bool, document: Any, text: str) -> None:
    """One JSON document, or the text for people, on stdout."""
    typer.echo(json.dumps({"schema": 1} | document, indent=2) if as_json else text)


def split_names(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def load_plugins(files: list[Path] | None) -> None:
    """Run the files given by `--plugin`."""
    from mmdf.extract.backbones import load_plugin

    for file in files or ():
        load_plugin(file)
