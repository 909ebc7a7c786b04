import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmdf.extract.media.decode import DecodeRequest
from mmdf.extract.media.limits import DEFAULT_LIMITS
from mmdf.extract.workers import DecodePool


def request(path: Path, **limits: float) -> DecodeRequest:
    return DecodeRequest(path, "image", frozenset(["frame"]), limits=replace(DEFAULT_LIMITS, **limits))


@pytest.mark.parametrize("n_workers", [0, 1, 2])
def test_results_come_in_order(make_image, n_workers: int) -> None:
    sizes = [(40 + n, 48) for n in range(9)]
    requests = [request(make_image(f"{n}.png", size=size)) for n, size in enumerate(sizes)]
    with DecodePool(n_workers) as pool:
        tagged = list(pool.decode(enumerate(requests)))
    found = [decoded for _, decoded in tagged]
    assert [tag for tag, _ in tagged] == list(range(9))
    assert [f.frames.pixels.shape[2] for f in found if f.frames] == [w for w, _ in sizes]


def test_a_worker_that_dies_costs_one_file(make_image) -> None:
    good = request(make_image("good.png"))
    # A path whose first use ends the process, as a decoder that segfaults would.
    deadly = replace(good, path=SimpleNamespace(is_file=partial(os._exit, 7)))
    with DecodePool(1) as pool:
        found = [decoded for _, decoded in pool.decode(enumerate([good, deadly, good, good]))]
    assert [f.error is None for f in found] == [True, False, True, True]
    assert found[1].error is not None
    assert "the decoder crashed on it" in found[1].error.message


def test_a_file_that_takes_too_long_is_given_up(make_image) -> None:
    slow = request(make_image("slow.png", size=(4000, 4000)), timeout_s=0.01)
    good = request(make_image("good.png"))
    with DecodePool(1) as pool:
        found = [decoded for _, decoded in pool.decode(enumerate([good, slow, good]))]
    assert [f.error is None for f in found] == [True, False, True]
    assert found[1].error is not None
    assert "decoding took more than" in found[1].error.message


def test_requests_are_drawn_as_they_are_needed(make_image) -> None:
    drawn = []

    def requests() -> Iterator[tuple[int, DecodeRequest]]:
        for number in range(100):
            drawn.append(number)
            yield number, request(path)

    path = make_image("a.png")
    with DecodePool(1) as pool:
        results = pool.decode(requests())
        next(results)
        # Two videos' worth of small images a worker, and the one that is asked for.
        assert len(drawn) == 65
        assert len(list(results)) == 99
