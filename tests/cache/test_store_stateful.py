"""The store against a dictionary, step by random step, and against a second process.

The model is what a reader may see: for each sample key the first committed vectors, in the storage dtype.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mmdf.cache import writer
from mmdf.cache.ledger import Seen
from mmdf.cache.manifest import Item, Manifest
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

DIM = 3
SPEC = FeatureSpec("toy", "frame", "picture", DIM, None, "none", "last", "mean", "none", "float32", "float16")
# Few, so that parts overlap often.
NAMES = tuple("abcd")
STEPS = st.lists(
    st.lists(st.floats(-60_000, 60_000, width=32), min_size=DIM, max_size=DIM), min_size=1, max_size=4
).map(lambda rows: np.array(rows, np.float32))


def key(name: str) -> bytes:
    return name.encode() * 16


class Kill(BaseException):
    """Stands for the end of the process."""


class StoreAgainstModel(RuleBasedStateMachine):
    """Rules do to the store and to the model what a run, a crash or a reader would do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FeatureStore.open(self.folder / "store", create=True)
        self.store.ledger.add_samples([Seen(name, 1, 1, key(name)) for name in NAMES])
        self.part = self.store.writer(SPEC, "run")
        self.pending: list[tuple[str, np.ndarray]] = []
        self.committed: dict[str, np.ndarray] = {}
        # The names of parts: the same keys in the same order are the same work.
        self.done: set[tuple[str, ...]] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def fresh_part(self) -> None:
        self.part = self.store.writer(SPEC, "run")
        self.pending = []

    @rule(name=st.sampled_from(NAMES), values=STEPS)
    def add(self, name: str, values: np.ndarray) -> None:
        self.part.add(key(name), values, np.arange(len(values)) * 0.5)
        self.pending.append((name, values.astype(np.float16)))

    @rule(name=st.sampled_from(NAMES))
    def absent(self, name: str) -> None:
        self.part.absent(key(name), "no face")
        self.pending.append((name, np.empty((0, DIM), np.float16)))

    @rule()
    def commit(self) -> None:
        self.part.commit()
        self.note_commit()
        self.fresh_part()

    def note_commit(self) -> None:
        work = tuple(name for name, _ in self.pending)
        if work not in self.done:
            for name, values in self.pending:
                self.committed.setdefault(name, values)
            self.done.add(work)

    # A part in one step: with single adds alone, few examples come to two parts that hold the same sample.
    @rule(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), values=STEPS)
    def extract(self, names: list[str], values: np.ndarray) -> None:
        for number, name in enumerate(names):
            self.add(name, values + number)
        self.commit()

    @rule()
    def drop(self) -> None:
        self.fresh_part()

    @rule(step=st.sampled_from(["write_part", "commit_table"]))
    def crash(self, step: str) -> None:
        real = getattr(writer, step)

        def kill(*args: object) -> None:
            raise Kill

        setattr(writer, step, kill)
        try:
            self.part.commit()
            # A part without arrays never comes to `write_part`.
            self.note_commit()
        except Kill:
            pass
        finally:
            setattr(writer, step, real)
        self.fresh_part()

    @rule()
    def reopen(self) -> None:
        self.store = FeatureStore.open(self.folder / "store")
        self.fresh_part()

    @rule(names=st.lists(st.sampled_from((*NAMES, "unknown")), min_size=1, unique=True))
    def read(self, names: list[str]) -> None:
        self.store.index(SPEC, refresh=True)
        ragged = self.store.read(SPEC, Manifest.of([Item(n, f"{n}.png", "image") for n in names], Path("/data")))
        wanted = [self.committed.get(name, np.empty((0, DIM), np.float16)) for name in names]
        assert ragged.n_steps.tolist() == [len(values) for values in wanted]
        assert ragged.values.tobytes() == np.concatenate(wanted).tobytes()
        assert ragged.times_s.tolist() == [0.5 * step for values in wanted for step in range(len(values))]

    @invariant()
    def missing_is_what_was_never_committed(self) -> None:
        self.store.index(SPEC, refresh=True)
        items = Manifest.of([Item(name, f"{name}.png", "image") for name in NAMES], Path("/data"))
        assert self.store.missing(items, SPEC) == [name for name in NAMES if name not in self.committed]


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=15,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from mmdf.cache.spec import FeatureSpec
from mmdf.cache.store import FeatureStore

root, number = Path(sys.argv[1]), int(sys.argv[2])
(root.parent / f"ready-{number}").touch()
while len(list(root.parent.glob("ready-*"))) < 2:
    time.sleep(0.001)
spec = FeatureSpec("toy", "frame", "picture", 3, None, "none", "last", "mean", "none", "float32", "float16")
store = FeatureStore.open(root, create=True)
for start in range(0, 24, 3):
    writer = store.writer(spec, f"run-{number}")
    # Every other slice is the same work in both processes, the rest overlaps by one sample.
    first = start + (number if start % 2 else 0)
    for sample in range(first, first + 3):
        writer.add(bytes([sample]) * 16, np.full((2, 3), sample), np.arange(2.0))
    writer.commit()
"""


def test_two_processes_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    command = [sys.executable, "-c", PROCESS, str(root)]
    running = [subprocess.Popen([*command, number], stderr=subprocess.PIPE, text=True) for number in "01"]
    for process in running:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr

    found = FeatureStore.open(root)
    n_samples = 25
    assert set(found.index(SPEC).position) == {bytes([sample]) * 16 for sample in range(n_samples)}
    found.ledger.add_samples([Seen(str(sample), 1, 1, bytes([sample]) * 16) for sample in range(n_samples)])
    items = Manifest.of([Item(str(sample), "x.png", "image") for sample in range(n_samples)], Path("/data"))
    ragged = found.read(SPEC, items)
    assert ragged.n_steps.tolist() == [2] * n_samples
    np.testing.assert_array_equal(ragged.values[:, 0], np.repeat(np.arange(n_samples), 2))
    # Four slices were the same work, four were two different ones: 4 + 2 * 4 parts, each with its fragment.
    fragments = {path.stem.removeprefix("frag-") for path in (root / "index" / SPEC.fingerprint).iterdir()}
    assert len(fragments) == 12
    assert sorted(
        path.name.partition("-")[0] for path in (root / "features" / SPEC.fingerprint / "parts").iterdir()
    ) == sorted(fragments)
    assert list((root / "tmp").iterdir()) == []
