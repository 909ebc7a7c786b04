"""Splits that do not leak: groups stay whole, strata stay balanced, overlaps are named.

Knows only the manifest's columns. A group is everything that hangs together through identity, source or pair.
"""

from collections import Counter, defaultdict

import numpy as np

from mmdf.cache.errors import DataError
from mmdf.cache.manifest import GROUP_COLUMNS, SPLITS, Manifest

DEFAULT_FRACTIONS = {"train": 0.6, "val": 0.15, "test": 0.25}


def check_overlap(manifest: Manifest) -> None:
    """Refuse a manifest in which an identity, source or pair stands in two splits.

    Raises
    ------
    DataError
        With the offenders named, five a column at the most.
    """
    splits = manifest.column("split")
    complaints = []
    for name in GROUP_COLUMNS:
        sides: dict[str, set[str]] = defaultdict(set)
        for value, split in zip(manifest.column(name), splits, strict=True):
            if value is not None and split is not None:
                sides[value].add(split)
        offenders = {value: sorted(where, key=SPLITS.index) for value, where in sides.items() if len(where) > 1}
        if offenders:
            shown = "; ".join(f"'{value}' in {' and '.join(where)}" for value, where in sorted(offenders.items())[:5])
            more = f" and {len(offenders) - 5} more" if len(offenders) > 5 else ""
            complaints.append(f"{len(offenders)} value(s) of {name}: {shown}{more}")
    if complaints:
        raise DataError(
            f"The splits overlap. {' | '.join(complaints)}. "
            "Scores on such a split mean nothing: make new ones with `mmdf manifest build … --resplit`."
        )


def groups_of(manifest: Manifest) -> np.ndarray:
    """Group number of every item, (n,) int64: connected components over identity, source and pair_key."""
    parent = list(range(len(manifest)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for name in GROUP_COLUMNS:
        first: dict[str, int] = {}
        for row, value in enumerate(manifest.column(name)):
            if value is not None:
                parent[root(row)] = root(first.setdefault(value, row))
    _, groups = np.unique([root(row) for row in range(len(manifest))], return_inverse=True)
    return groups.astype(np.int64)


def assign_splits(manifest: Manifest, seed: int, fractions: dict[str, float] | None = None) -> Manifest:
    """Give every item a split: grouped by identity, source and pair, stratified by label and method, seeded.

    Greedy: groups in order of size (ties shuffled by `seed`) each go where they leave the strata nearest to their
    targets. The target of a stratum in a split is its count times the split's fraction. No split stays empty.

    Raises
    ------
    DataError
        When fewer than three groups exist, since then no split can be honest.
    """
    fractions = fractions or DEFAULT_FRACTIONS
    groups = groups_of(manifest)
    n_groups = int(groups.max()) + 1
    if n_groups < len(SPLITS):
        raise DataError(
            f"All {len(manifest)} items hang together in {n_groups} group(s) through identity, source or pair, "
            "so train, val and test cannot be kept apart. Add data of other people, or leave those columns empty "
            "if they do not say who is seen or heard."
        )
    strata = list(zip(manifest.column("label"), manifest.column("method"), strict=True))
    names = sorted(set(strata), key=str)
    counts = np.zeros((n_groups, len(names)))
    np.add.at(counts, (groups, np.array([names.index(s) for s in strata])), 1)
    order = np.random.default_rng(seed).permutation(n_groups)
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    choice = _greedy(counts, order, np.array([fractions[s] for s in SPLITS]))
    return manifest.with_splits([SPLITS[choice[g]] for g in groups])


def _greedy(counts: np.ndarray, order: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    total = counts.sum(0)
    target = fractions[:, None] * total
    have = np.zeros_like(target)
    choice = np.zeros(len(counts), dtype=int)
    for n_placed, group in enumerate(order):
        # The change in squared relative distance to the target, if the group went to each split in turn.
        gap = (target - have) / total
        step = counts[group] / total
        cost = ((gap - step) ** 2 - gap**2).sum(1)
        cost -= 1e-6 * gap.sum(1)
        empty = have.sum(1) == 0
        if empty.sum() >= len(order) - n_placed:
            cost[~empty] = np.inf
        choice[group] = int(np.argmin(cost))
        have[choice[group]] += counts[group]
    return choice


def split_counts(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Counts a split: items, real, fake, unknown, groups. Splits without items are left out."""
    groups = groups_of(manifest)
    table: dict[str, dict[str, int]] = {}
    splits = np.array([value or "none" for value in manifest.column("split")])
    labels = np.array([{0: "real", 1: "fake"}.get(value, "unknown") for value in manifest.column("label")])
    for split in (*SPLITS, "none"):
        rows = splits == split
        if rows.any():
            found = Counter(labels[rows].tolist())
            table[split] = {"items": int(rows.sum()), "groups": len(set(groups[rows].tolist()))}
            table[split] |= {name: found.get(name, 0) for name in ("real", "fake", "unknown")}
    return table


def describe(manifest: Manifest) -> str:
    """The counts a split as a table for a terminal, with a warning for each split that cannot serve."""
    counts = split_counts(manifest)
    lines = [f"{'split':<6} {'items':>7} {'groups':>7} {'real':>7} {'fake':>7} {'unknown':>8}"]
    for split, row in counts.items():
        numbers = f"{row['items']:>7} {row['groups']:>7} {row['real']:>7} {row['fake']:>7} {row['unknown']:>8}"
        lines.append(f"{split:<6} {numbers}")
    for split in SPLITS:
        missing = [name for name in ("real", "fake") if not counts.get(split, {}).get(name)]
        if missing:
            lines.append(f"Warning: split '{split}' has no {' and no '.join(missing)} items.")
    return "\n".join(lines)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest with files that are missing, paths that leave the root, or splits that overlap.

    Raises
    ------
    DataError
        With the first offenders named and what to do.
    """
    missing = [item.path for item in manifest.items() if not manifest.file(item).is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DataError(
            f"{len(missing)} of {len(manifest)} files are not under {manifest.root}: {shown}. "
            "If the data have moved, say where: --root FOLDER. Else build the manifest anew."
        )
    check_overlap(manifest)
