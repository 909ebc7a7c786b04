"""What is timed and what is taken off, with clocks of the tests' own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdf.cache.manifest import Item, Manifest
from mmdf.extract.backbones.load import load_backbones
from mmdf.extract.bench import timed
from mmdf.extract.bench.decoders import CONTESTS, per_core
from mmdf.extract.device import Compute
from mmdf.extract.media.sampling import DEFAULT_SAMPLING
from mmdf.extract.options import ExtractOptions
from mmdf.extract.summary import DECODING, Clock, Summary

CPU = torch.device("cpu")
OPTIONS = ExtractOptions(n_workers=0, batch_rows=2)


def toy() -> object:
    return load_backbones(["toy-picture"], Compute(CPU, torch.float32, "test"), DEFAULT_SAMPLING)[0]


@pytest.fixture
def manifest(make_image: Callable[..., Path], tmp_path: Path) -> Manifest:
    paths = [make_image(f"{seed}.png", seed=seed) for seed in range(5)]
    return Manifest.of([Item(path.stem, path.name, "image") for path in paths], tmp_path)


def test_contestants_take_turns_and_the_median_counts() -> None:
    order: list[str] = []
    times = {"ours": iter([5.0, 1.0, 2.0]), "bare": iter([1.0, 9.0, 3.0])}

    def contestant(name: str) -> float:
        order.append(name)
        return next(times[name])

    found = timed.in_turn({name: lambda name=name: contestant(name) for name in times}, 3)
    assert found == {"ours": 2.0, "bare": 3.0}
    assert order == ["ours", "bare", "bare", "ours", "ours", "bare"]


def test_a_start_is_what_was_waited_for_but_for_decoding_itself() -> None:
    marks = timed.Marks()
    marks.summary = Summary(Clock(CPU))
    seconds = marks.summary.clock.seconds
    seconds[DECODING], marks.summary.worker_s = 3.5, 0.5
    marks(1, 0)
    seconds[DECODING] = 9.0
    marks(1, 0)
    assert marks.startup_s == 3.0
    assert marks.last_known_s == 9.0


def test_an_extraction_is_all_its_time_but_start_and_end(manifest: Manifest, tmp_path: Path) -> None:
    run = timed.extract(manifest, [toy()], CPU, OPTIONS, tmp_path)
    assert run.summary.n_computed == 5
    assert run.seconds + run.startup_s + run.shutdown_s == pytest.approx(run.summary.total_s)
    clock = run.summary.clock.seconds
    assert run.seconds >= clock["prepare"] + clock["write"]
    assert not list(tmp_path.glob("store-*")), "the store is thrown away"


def test_failures_are_no_result(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(RuntimeError, match="1 items failed"):
        timed.extract(manifest, [toy()], CPU, OPTIONS, tmp_path)


def test_the_bare_pass_sees_the_rows_of_the_extraction(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = toy()
    inputs = timed.preloaded(manifest, backbone, CPU, OPTIONS)
    assert inputs.shape == (5, 3 * 32 * 32)
    assert len(np.unique(inputs.numpy(), axis=0)) == 5
    seen: list[int] = []
    forward = backbone.forward
    monkeypatch.setattr(backbone, "forward", lambda batch: seen.append(len(batch)) or forward(batch))
    timed.bare(backbone, inputs, 2)
    assert seen == [2, 2, 1]


def test_a_backbone_that_normalises_batches_does_so_before_the_bare_pass(manifest: Manifest) -> None:
    backbone = toy()
    plain = timed.preloaded(manifest, backbone, CPU, OPTIONS)
    backbone.normalise = lambda batch: 2 * batch
    assert torch.equal(timed.preloaded(manifest, backbone, CPU, OPTIONS), 2 * plain)


def test_frames_a_core_are_counted_by_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 14.0])
    monkeypatch.setattr("time.process_time", lambda: next(times))
    decoded: list[Path] = []
    files = [Path("a"), Path("b")]
    assert per_core(lambda file: decoded.append(file) or 6.0, files) == 3.0
    assert decoded == [files[0], *files], "the first once more, to warm up"


def test_every_decoder_gets_all_there_is(
    make_video: Callable[..., Path], make_image: Callable[..., Path], make_sound: Callable[..., Path]
) -> None:
    film = make_video(n_frames=40, sound=False)
    files = {"film": film, "film-16": film, "image": make_image("a.jpg"), "sound": make_sound(duration_s=0.5)}
    amounts = {"film": 40, "film-16": 16, "image": 1, "sound": 0.5}
    for kind, (_, _, _, own, others) in CONTESTS.items():
        for decoder in (own, *others.values()):
            assert decoder(files[kind]) == pytest.approx(amounts[kind]), kind
