"""How much the benchmark runs, and what it must reach. Light, so that the command line can name its parts."""

from dataclasses import dataclass, replace
from pathlib import Path

from mmdf.cache.errors import UsageError
from mmdf.cache.registry import did_you_mean
from mmdf.extract.bench.results import PARTS, Target

THROUGHPUT, ONE_PASS, NOTEBOOK, MEMORY = Target(0.95), Target(0.70, False), Target(2.0), Target(1.10, False)
# The families that the target of (a) was set for; convolutional nets are printed beside them.
THROUGHPUT_FAMILIES = ("clip", "dinov2", "speech")


@dataclass(frozen=True)
class Workload:
    """How much is run.

    Attributes
    ----------
    repeats
        Rounds of which the median is taken.
    sound_s
        Shortest and longest sound. None is shorter than a window, so that all rows are alike.
    memory_items, memory_backbone
        Few and many items, and what they are extracted with.
    tiny
        Whether transformers have a few thousand parameters.
    """

    pictures: tuple[str, ...]
    speech: tuple[str, ...]
    n_images: int
    image_px: int
    n_sounds: int
    sound_s: tuple[float, float]
    n_films: int
    film_s: float
    film_px: tuple[int, int]
    repeats: int
    batch_rows: int
    frames: int
    memory_items: tuple[int, int]
    memory_backbone: str
    tiny: bool = False


FULL = Workload(
    pictures=("clip-vit-b32", "dinov2-s", "convnext-tiny", "efficientnet-b0", "efficientnet-lite0"),
    speech=("wav2vec2-base", "hubert-base"),
    n_images=192,
    image_px=512,
    n_sounds=40,
    sound_s=(4.0, 10.0),
    n_films=6,
    film_s=5.0,
    film_px=(1920, 1080),
    repeats=3,
    batch_rows=32,
    frames=16,
    memory_items=(100, 1000),
    memory_backbone="efficientnet-lite0",
)
QUICK = Workload(
    pictures=("clip-vit-b32", "dinov2-s"),
    speech=("wav2vec2-base",),
    n_images=6,
    image_px=96,
    n_sounds=3,
    sound_s=(4.0, 5.0),
    n_films=2,
    film_s=1.0,
    film_px=(160, 120),
    repeats=1,
    batch_rows=4,
    frames=4,
    memory_items=(4, 8),
    memory_backbone="toy-picture",
    tiny=True,
)


@dataclass(frozen=True)
class BenchOptions:
    """What the shell can say of the benchmark.

    Attributes
    ----------
    weights_dir
        Real weights; a backbone that is not in there gets random ones.
    folder
        Where media and checkpoints are kept from one run to the next; thrown away if None.
    repeats
        Rounds, if other than the workload's.
    """

    parts: tuple[str, ...] = tuple(PARTS)
    quick: bool = False
    weights_dir: Path | None = None
    folder: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    n_workers: int = 1
    repeats: int | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(
                    f"The benchmark has no part '{part}'.{did_you_mean(part, PARTS)} Parts: {','.join(PARTS)}."
                )

    @property
    def workload(self) -> Workload:
        """How much to run."""
        chosen = QUICK if self.quick else FULL
        return chosen if self.repeats is None else replace(chosen, repeats=self.repeats)
