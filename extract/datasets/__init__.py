"""Dataset layouts: from a folder or table on disk to a manifest. They never open a media file.

The registry is lazy, so that listing the layouts imports none of them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmdf.cache.registry import Registry

if TYPE_CHECKING:
    from mmdf.cache.manifest import Manifest


class Layout(Protocol):
    """Reads one way of laying out a dataset. `dataset` defaults to the name of the root folder."""

    def __call__(self, root: Path, dataset: str | None = None, **options: Any) -> "Manifest":
        """The manifest of everything under `root`. Raises `DataError` where the layout does not fit."""
        ...


layouts: Registry[Layout] = Registry(
    "dataset layout",
    {
        "folders": "mmdf.extract.datasets.folders:build",
        "table": "mmdf.extract.datasets.table:build",
    },
)
