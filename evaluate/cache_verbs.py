"""The verbs of `mmdf cache`: look into a feature store, check it, clean it, join it, take it elsewhere. Thin."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmdf.evaluate.shell import JsonOption, ManifestOption, RootOption, print_result, split_names

if TYPE_CHECKING:
    from mmdf.cache.spec import FeatureSpec

cache_app = typer.Typer(no_args_is_help=True, help="Look into a feature store, check, clean, join and export it.")

StoreArgument = Annotated[Path, typer.Argument(help="Folder of a store.")]
FeatureOption = Annotated[str, typer.Option("--feature", "-f", help="One feature: alias or fingerprint.")]


@cache_app.command("info", epilog="Example: mmdf cache info store")
def cache_info(store: StoreArgument, json_: JsonOption = False) -> None:
    """Every feature in a store: items, steps, size, weights, precision; and what failed."""
    from mmdf.cache.describe import describe_store, to_text

    description = describe_store(store)
    print_result(json_, description, to_text(description))


@cache_app.command("ls", epilog="Example: mmdf cache ls store -m faces.parquet")
def cache_ls(
    store: StoreArgument,
    manifest: Annotated[Path | None, typer.Option("--manifest", "-m", help="What should be in it.")] = None,
    json_: JsonOption = False,
) -> None:
    """Features one by one, with what is missing against a manifest; exit code 3 if something is."""
    from mmdf.cache.coverage import coverage
    from mmdf.cache.manifest import Manifest
    from mmdf.cache.store import FeatureStore

    found = coverage(FeatureStore.open(store), Manifest.read(manifest) if manifest else None, _wanted)
    print_result(json_, found.to_dict(), found.to_text())
    raise typer.Exit(0 if manifest is None or found.is_complete else 3)


def _wanted(spec: "FeatureSpec", modality: str, split: str | None) -> bool:
    from mmdf.cache.coverage import by_stream
    from mmdf.extract.backbones.cards import VIEWS

    if spec.view not in VIEWS:
        return by_stream(spec, modality, split)
    return modality in VIEWS[spec.view].modalities and (not spec.augment or split == "train")


@cache_app.command("verify", epilog="Example: mmdf cache verify store --level 2")
def cache_verify(
    store: StoreArgument,
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


@cache_app.command("gc", epilog="Example: mmdf cache gc store --dry-run")
def cache_gc(
    store: StoreArgument,
    older_than_s: Annotated[float, typer.Option(min=0, help="Leave alone what changed so recently.")] = 3600.0,
    superseded: Annotated[bool, typer.Option("--superseded", help="Features too that a later one replaces.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    json_: JsonOption = False,
) -> None:
    """Remove what interrupted runs and compactions left behind. Look first, with --dry-run."""
    from mmdf.cache.maintain import gc
    from mmdf.cache.store import FeatureStore

    found = gc(FeatureStore.open(store), older_than_s, superseded, dry_run)
    print_result(json_, found.to_dict(), found.to_text())


@cache_app.command("compact", epilog="Example: mmdf cache compact store")
def cache_compact(
    store: StoreArgument,
    features: Annotated[str | None, typer.Option("--features", "-f", help="Comma-separated; default all.")] = None,
    part_mb: Annotated[int, typer.Option(min=1, help="Size of a part in MB.")] = 256,
    json_: JsonOption = False,
) -> None:
    """Few large parts in place of many small ones; `mmdf cache gc` frees the room of the old ones later."""
    from mmdf.cache.compact import compact
    from mmdf.cache.store import FeatureStore

    opened = FeatureStore.open(store)
    specs = [opened.find(name) for name in split_names(features)] if features else opened.specs()
    done = [compact(opened, spec, part_mb * 2**20) for spec in specs]
    print_result(json_, {"features": [one.to_dict() for one in done]}, "\n".join(one.to_text() for one in done))
    raise typer.Exit(max((one.exit_code for one in done), default=0))


@cache_app.command("merge", epilog="Example: mmdf cache merge store store-from-the-other-machine")
def cache_merge(
    store: StoreArgument,
    other: Annotated[Path, typer.Argument(help="Folder of the store to take from; it is not changed.")],
    json_: JsonOption = False,
) -> None:
    """Take over what another store has and this one lacks."""
    from mmdf.cache.merge import merge
    from mmdf.cache.store import FeatureStore

    # Opened first, so that a mistyped name makes no store.
    source = FeatureStore.open(other)
    done = merge(FeatureStore.open(store, create=True), source)
    print_result(json_, done.to_dict(), done.to_text())
    raise typer.Exit(done.exit_code)


@cache_app.command("export", epilog="Example: mmdf cache export store -m faces.parquet --h5 faces.h5")
def cache_export(
    store: StoreArgument,
    manifest: ManifestOption,
    h5: Annotated[Path | None, typer.Option(help="One HDF5 file with all features.")] = None,
    npy: Annotated[
        Path | None, typer.Option(help="Folder with .npy files of one feature, to be memory-mapped.")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="Folder with one HDF5 file an item, as CLAM and TRIDENT.")] = None,
    features: Annotated[str | None, typer.Option("--features", "-f", help="Comma-separated; default all.")] = None,
    json_: JsonOption = False,
) -> None:
    """Write embeddings of a manifest's items in a format that other tools read."""
    from mmdf.cache.errors import UsageError
    from mmdf.cache.manifest import Manifest
    from mmdf.cache.store import FeatureStore

    found, opened = Manifest.read(manifest), FeatureStore.open(store)
    specs = [opened.find(name) for name in split_names(features)] if features else opened.specs()
    if [h5, npy, items].count(None) != 2:
        raise UsageError("Give one of --h5 FILE, --npy FOLDER and --items FOLDER.")
    if h5 is not None:
        from mmdf.cache.transfer import export_h5

        done = export_h5(opened, found, h5, specs)
    elif len(specs) != 1:
        raise UsageError(f"--npy and --items write one feature; name it with -f. {store} has {len(specs)}.")
    elif npy is not None:
        from mmdf.cache.transfer_npy import export_npy

        done = export_npy(opened, found, npy, specs[0])
    elif items is not None:
        from mmdf.cache.transfer_items import export_items

        done = export_items(opened, found, items, specs[0])
    print_result(json_, done.to_dict(), done.to_text())
    raise typer.Exit(done.exit_code)


@cache_app.command("import", epilog="Example: mmdf cache import store faces.h5")
def cache_import(
    store: StoreArgument,
    source: Annotated[Path, typer.Argument(help="HDF5 file of `mmdf cache export`, or a folder with one an item.")],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", "-m", help="For a folder: whose items they are.")
    ] = None,
    feature: Annotated[str | None, typer.Option("--feature", "-f", help="For a folder: BACKBONE/VIEW.")] = None,
    stream: Annotated[str, typer.Option(help="For a folder: picture or sound.")] = "picture",
    root: RootOption = None,
    json_: JsonOption = False,
) -> None:
    """Take in embeddings that were exported, or that another tool computed."""
    from mmdf.cache.errors import UsageError
    from mmdf.cache.store import FeatureStore

    opened = FeatureStore.open(store, create=True)
    if source.is_dir():
        if manifest is None or feature is None:
            raise UsageError(
                f"{source} is a folder: say whose items they are (-m MANIFEST) and what (-f BACKBONE/VIEW)."
            )
        from mmdf.cache.manifest import Manifest
        from mmdf.cache.transfer_items import import_items

        done = import_items(opened, Manifest.read(manifest, root), source, feature, stream)
    else:
        from mmdf.cache.transfer import import_h5

        done = import_h5(opened, source)
    print_result(json_, done.to_dict(), done.to_text())
    raise typer.Exit(done.exit_code)
