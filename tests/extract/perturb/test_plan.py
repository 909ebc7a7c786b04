import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdf.cache.errors import UsageError
from mmdf.cache.spec import canonical_json
from mmdf.extract.perturb.plan import (
    DEFAULT_RANGES,
    Noise,
    PictureRanges,
    Ranges,
    SoundPlan,
    SoundRanges,
    draw,
    recipe,
    time_scale,
)

KEYS = [hashlib.blake2b(bytes([i % 256, i // 256]), digest_size=16).digest() for i in range(1000)]

draws = st.tuples(st.integers(-(2**70), 2**70), st.binary(max_size=40), st.integers(1, 1000))


@settings(deadline=None)
@given(draws)
def test_pictures_stay_within_their_ranges(args) -> None:
    plan, ranges = draw(*args, "picture"), DEFAULT_RANGES.picture
    for name in ("area", "brightness", "contrast", "saturation", "hue", "time_offset"):
        low, high = getattr(ranges, name)
        assert low <= getattr(plan, name) <= high
    assert 0 <= plan.top < 1
    assert 0 <= plan.left < 1
    assert plan.blur_sigma_px is None or 0.3 <= plan.blur_sigma_px <= 1.5
    assert plan.jpeg_quality is None or 40 <= plan.jpeg_quality <= 95


@settings(deadline=None)
@given(draws)
def test_sounds_stay_within_their_ranges(args) -> None:
    plan = draw(*args, "sound")
    assert plan.stretch is None or 0.9 <= plan.stretch <= 1.1
    assert plan.pitch_semitones is None or -2 <= plan.pitch_semitones <= 2
    assert plan.noise is None or (15 <= plan.noise.snr_db <= 35 and plan.noise.colour in ("white", "pink"))
    rates = {"mp3": SoundRanges().mp3_kbit_s, "opus": range(16, 65)}
    assert plan.codec is None or plan.codec.kbit_s in rates[plan.codec.name]
    assert -6 <= plan.gain_db <= 6
    assert (plan.stretch, plan.pitch_semitones, plan.noise, plan.codec) != (None,) * 4


def test_something_happens_even_if_nothing_is_likely() -> None:
    never = Ranges(sound=SoundRanges(stretch_p=0, pitch_p=0, noise_p=0, codec_p=0))
    done = [
        tuple(getattr(draw(0, key, 1, "sound", never), name) is not None for name in _OPERATIONS) for key in KEYS[:200]
    ]
    assert {sum(d) for d in done} == {1}
    assert all(any(d[k] for d in done) for k in range(4))


_OPERATIONS = ("stretch", "pitch_semitones", "noise", "codec")


def test_operations_come_as_often_as_said() -> None:
    pictures = [draw(0, key, 1, "picture") for key in KEYS]
    # Three standard deviations of a share of 1,000 are at most 0.048.
    assert np.mean([p.flip for p in pictures]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([p.jpeg_quality is not None for p in pictures]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([p.blur_sigma_px is not None for p in pictures]) == pytest.approx(0.3, abs=0.05)
    sounds = [draw(0, key, 1, "sound") for key in KEYS]
    # Where none of the four came, each gets a quarter of the remaining 8.75 %.
    extra = 0.5 * 0.7 * 0.5 * 0.5 / 4
    for name, p in zip(_OPERATIONS, (0.5, 0.3, 0.5, 0.5), strict=True):
        assert np.mean([getattr(s, name) is not None for s in sounds]) == pytest.approx(p + extra, abs=0.05)
    assert np.mean([s.codec.name == "mp3" for s in sounds if s.codec]) == pytest.approx(0.5, abs=0.07)


def _numbers(index: int, kind: str, seed: int = 0) -> np.ndarray:
    if kind == "picture":
        return np.array([dataclasses.astuple(draw(seed, k, index, "picture"))[0:3] for k in KEYS])
    return np.array([[draw(seed, k, index, "sound").gain_db] for k in KEYS])


@pytest.mark.parametrize("other", [(2, "picture", 0), (1, "picture", 1), (1, "sound", 0)])
def test_index_seed_and_kind_are_independent(other) -> None:
    one, two = _numbers(1, "picture"), _numbers(*other)
    n = one.shape[1]
    between = np.corrcoef(one.T, two.T)[:n, n:]
    # Correlations of 1,000 independent pairs have a standard deviation of 0.03.
    assert np.abs(between).max() < 0.13
    assert not np.isclose(one[:, :1], two[:, :1]).any()


def test_one_operation_moves_no_other() -> None:
    # The plans of a data set must not all change when one probability does.
    often = Ranges(PictureRanges(blur_p=1.0), SoundRanges(stretch_p=1.0))
    for key in KEYS[:50]:
        a, b = draw(3, key, 2, "picture"), draw(3, key, 2, "picture", often)
        assert dataclasses.replace(a, blur_sigma_px=None) == dataclasses.replace(b, blur_sigma_px=None)
        assert draw(3, key, 2, "sound").gain_db == draw(3, key, 2, "sound", often).gain_db


def test_seed_index_and_key_do_not_run_into_each_other() -> None:
    assert draw(1, b"1|picture|", 1, "picture") != draw(1, b"picture|", 11, "picture")
    assert draw(11, b"a", 1, "picture") != draw(1, b"a", 11, "picture")


_SCRIPT = """
import hashlib
from mmdf.extract.perturb.plan import draw
keys = [bytes([i]) for i in range(40)]
plans = {(k, i, kind): draw(7, k, i, kind) for k in keys[::STEP] for i in (1, 2, 3) for kind in ("picture", "sound")}
print(hashlib.blake2b(repr(sorted(plans.items(), key=lambda p: p[0])).encode()).hexdigest())
"""


def test_plans_are_the_same_in_any_process_and_order() -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT.replace("STEP", step)], capture_output=True, text=True, check=True
        ).stdout
        for step in ("1", "-1")
    ]
    assert found[0] == found[1]


def test_plans_are_pinned() -> None:
    # A change here changes every augmented feature: raise RECIPE_VERSION.
    plan = draw(0, b"a", 1, "sound")
    assert (plan.codec.name, plan.codec.kbit_s, round(plan.gain_db, 6)) == ("opus", 29, 0.516612)
    assert draw(0, b"a", 1, "picture").area == pytest.approx(0.992399988757572, abs=1e-12)


@pytest.mark.parametrize(("index", "kind"), [(0, "picture"), (-1, "sound"), (1, "smell")])
def test_what_does_not_exist_is_refused(index: int, kind: str) -> None:
    with pytest.raises(UsageError, match=r"view 0|'smell'"):
        draw(0, b"a", index, kind)


def _all_ranges() -> list[tuple[str, str]]:
    fields = [("picture", f.name) for f in dataclasses.fields(PictureRanges)]
    return fields + [("sound", f.name) for f in dataclasses.fields(SoundRanges)]


@pytest.mark.parametrize(("kind", "name"), _all_ranges())
def test_any_change_of_the_ranges_changes_the_recipe_of_its_stream_alone(kind: str, name: str) -> None:
    part = getattr(DEFAULT_RANGES, kind)
    old = getattr(part, name)
    new = old / 2 if isinstance(old, float) else old[:-1]
    changed = recipe(dataclasses.replace(DEFAULT_RANGES, **{kind: dataclasses.replace(part, **{name: new})}))
    other = {"picture": "sound", "sound": "picture"}[kind]
    assert canonical_json(changed[kind]) != canonical_json(recipe()[kind])
    assert changed[other] == recipe()[other]


def test_the_recipe_is_json() -> None:
    assert canonical_json(json.loads(json.dumps(recipe()))) == canonical_json(recipe())


@settings(max_examples=20, deadline=None)
@given(st.floats(0.9, 1.1))
def test_time_scale_is_the_stretch_alone(stretch: float) -> None:
    noise = Noise("white", 20.0, 1)
    assert time_scale(SoundPlan(stretch, 2.0, noise, None, 3.0)) == stretch
    assert time_scale(SoundPlan(None, 2.0, noise, None, 3.0)) == 1.0
