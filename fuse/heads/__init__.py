"""The heads by name. Looking at the list loads no torch; `heads.get(name)` does."""

from typing import TYPE_CHECKING

from mmdf.cache.registry import Registry

if TYPE_CHECKING:
    from mmdf.fuse.heads.base import Head

heads: Registry["type[Head]"] = Registry(
    "head",
    {
        "probe": "mmdf.fuse.heads.probe:ProbeHead",
        "early": "mmdf.fuse.heads.early:EarlyHead",
        "late": "mmdf.fuse.heads.late:LateHead",
    },
)
