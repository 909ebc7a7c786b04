"""From a layout's name and a root to a manifest with honest splits.

Knows no layout by itself: they come from the registry.
"""

import inspect
from pathlib import Path
from typing import Any

from mmdf.cache.errors import DataError, UsageError
from mmdf.cache.manifest import Manifest
from mmdf.cache.registry import did_you_mean
from mmdf.cache.splits import assign_splits, check_overlap
from mmdf.extract.datasets import Layout, layouts


def build_manifest(
    layout: str,
    root: Path,
    dataset: str | None = None,
    seed: int = 0,
    resplit: bool = False,
    table: str | None = None,
    **options: Any,
) -> Manifest:
    """Read `root` by `layout` and make sure that every item has a split and that no group stands in two.

    Parameters
    ----------
    layout
        A name in `mmdf.extract.datasets.layouts`.
    root
        The folder of the dataset; for the layout `table` also the table itself.
    dataset
        What the dataset is called; the name of the root folder by default.
    seed, resplit
        Splits are made with `seed` when the data have none, or when `resplit` asks for new ones.
    table, options
        Handed to the layout where they are not None.

    Raises
    ------
    UsageError
        If the layout does not exist or does not take an option.
    DataError
        If the data do not fit the layout, only some items have a split, or the splits overlap.
    """
    build = layouts.get(layout)
    given = {name: value for name, value in {"table": table, **options}.items() if value is not None}
    _check_options(layout, build, given)
    manifest = build(root, dataset, **given)
    splits = manifest.column("split")
    without = splits.count(None)
    if resplit or without == len(splits):
        manifest = assign_splits(manifest, seed)
    elif without:
        raise DataError(
            f"{without} of {len(splits)} items have no split, item '{_first_without_split(manifest)}' for one. "
            "Give every item a split, or give all of them new ones with --resplit."
        )
    check_overlap(manifest)
    return manifest


def _check_options(layout: str, build: Layout, given: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(build).parameters if name not in ("root", "dataset")]
    for name in given:
        if name not in known:
            raise UsageError(
                f"The layout '{layout}' takes no option '{name}'.{did_you_mean(name, known)} "
                f"It takes: {', '.join(known) or 'none'}."
            )


def _first_without_split(manifest: Manifest) -> str:
    return str(manifest.column("item_id")[manifest.column("split").index(None)])
