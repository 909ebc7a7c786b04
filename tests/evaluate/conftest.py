"""Score tables as a detector would write them, made of a few lists."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from mmdf.cache.scores import SCHEMA, ScoreTable

INFO = {"detector": "early", "threshold": 0.5, "threshold_from": "equal error rate on validation", "trained_on": "toy"}


def score_table(labels: Sequence, scores: Sequence, info: dict | None = None, **columns: Sequence) -> ScoreTable:
    """A table with the given columns; item ids are numbered, and everything is the test split of toy."""
    n_items = len(labels)
    filled = {
        "item_id": [f"item{number:04d}" for number in range(n_items)],
        "dataset": ["toy"] * n_items,
        "split": ["test"] * n_items,
        "label": list(labels),
        "score": list(scores),
    } | columns
    absent = {name: [None] * n_items for name in SCHEMA.names if name not in filled}
    return ScoreTable(pa.Table.from_pydict(filled | absent, schema=SCHEMA), INFO if info is None else info)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., ScoreTable]:
    return score_table


@pytest.fixture(scope="session")
def toy_table() -> ScoreTable:
    """120 items of 30 people: half real, two methods of which `swap` is easy and `voice` is hard."""
    rng = np.random.default_rng(7)
    labels = np.arange(120) % 2
    methods = [None if label == 0 else ("swap", "voice")[number // 2 % 2] for number, label in enumerate(labels)]
    centre = np.array([{None: 0.3, "swap": 0.7, "voice": 0.45}[method] for method in methods])
    scores = np.clip(rng.normal(centre, 0.15), 0, 1)
    identities = [f"person{number // 4}" for number in range(120)]
    return score_table(labels.tolist(), scores.tolist(), method=methods, identity=identities)
