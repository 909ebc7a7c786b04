"""FeatureSpec: the fingerprint changes with every number-changing field, and with nothing else."""

import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdf.cache.spec import FeatureSpec, canonical_json

VALUES: dict[str, Any] = {
    "backbone": "clip-vit-b32",
    "view": "face",
    "stream": "picture",
    "dim": 768,
    "hop_s": 0.5,
    "weights_digest": "ab" * 32,
    "layers": "last",
    "pooling": "cls",
    "padding": "none",
    "compute_dtype": "float16",
    "storage_dtype": "float16",
    "sampling": {"kind": "even", "n_frames": 32},
    "preprocessing": {"size_px": 224, "mean": [0.48, 0.46, 0.41]},
    "decoder": {"name": "decord", "seek": False},
}
CHANGES: dict[str, Any] = {
    "backbone": "dinov2-b14",
    "view": "frame",
    "stream": "sound",
    "dim": 769,
    "hop_s": None,
    "weights_digest": "none",
    "layers": "last4",
    "pooling": "mean",
    "padding": "repeat",
    "compute_dtype": "float32",
    "storage_dtype": "float32",
    "sampling": {"kind": "even", "n_frames": 33},
    "preprocessing": {"size_px": 224, "mean": [0.48, 0.41, 0.46]},
    "decoder": {"name": "decord", "seek": 0},
    "variant": "layers-all",
    "shape": (2, 384),
    "schema": 2,
}
SPEC = FeatureSpec(**VALUES)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_the_fingerprint_is_blake2b_128_of_the_canonical_json() -> None:
    text = json.dumps(VALUES | {"schema": 1}, sort_keys=True, separators=(",", ":"))
    assert SPEC.fingerprint == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_the_fingerprint_is_the_same_in_another_process_with_other_hash_seeds() -> None:
    code = f"from mmdf.cache.spec import FeatureSpec; print(FeatureSpec(**{VALUES!r}).fingerprint)"
    for seed in ("0", "1"):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed})
        assert run.stdout.strip() == SPEC.fingerprint, run.stderr


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.permutations(list(VALUES)), st.permutations(["kind", "n_frames"]))
def test_the_fingerprint_knows_no_order_of_fields_or_keys(names: list[str], keys: list[str]) -> None:
    values = {name: VALUES[name] for name in names}
    values["sampling"] = {key: VALUES["sampling"][key] for key in keys}
    assert FeatureSpec(**values).fingerprint == SPEC.fingerprint


def test_every_field_is_part_of_the_fingerprint() -> None:
    assert set(CHANGES) == {f.name for f in fields(FeatureSpec)}
    found = {replace(SPEC, **{name: value}).fingerprint for name, value in CHANGES.items()}
    assert len(found | {SPEC.fingerprint}) == len(CHANGES) + 1


def test_one_and_one_point_zero_are_the_same_number() -> None:
    assert replace(SPEC, hop_s=1).fingerprint == replace(SPEC, hop_s=1.0).fingerprint
    nested = [replace(SPEC, sampling={"rates_hz": rates}) for rates in ([16000], (16000.0,))]
    assert nested[0].fingerprint == nested[1].fingerprint


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = replace(SPEC, sampling={"hop_s": float("nan")}).fingerprint


def test_the_alias_is_backbone_and_view() -> None:
    assert SPEC.alias == "clip-vit-b32/face"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(PLAIN)
def test_a_spec_survives_json(value: object) -> None:
    spec = replace(SPEC, preprocessing={"recipe": value})
    again = FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.fingerprint == spec.fingerprint


def test_a_tuple_equals_the_list_that_json_makes_of_it() -> None:
    spec = replace(SPEC, preprocessing={"mean": (0.5, 0.5)})
    assert FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_equality_is_equality_of_fingerprints() -> None:
    assert replace(SPEC) == SPEC
    assert replace(SPEC, dim=1) != SPEC
    # Python calls False and 0 equal; a decoder's option need not.
    assert replace(SPEC, decoder=CHANGES["decoder"]) != SPEC
    assert SPEC.to_dict() != SPEC


def test_precision_is_the_one_difference_that_is_forgiven() -> None:
    assert SPEC.same_but_precision(replace(SPEC, compute_dtype="bfloat16"))
    assert not SPEC.same_but_precision(replace(SPEC, compute_dtype="bfloat16", layers="last4"))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(PLAIN)
def test_canonical_json_is_json_of_the_same_value(value: object) -> None:
    text = canonical_json(value)
    assert text.isascii()
    assert canonical_json(json.loads(text)) == text


def test_variant_and_shape_stand_in_the_alias_and_survive_json() -> None:
    spec = replace(SPEC, variant="layers-all", shape=(2, 384))
    assert spec.alias == "clip-vit-b32/face+layers-all"
    assert FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert "variant" not in SPEC.to_dict()
    assert "shape" not in SPEC.to_dict()


def test_a_shape_holds_as_many_values_as_the_feature_is_wide() -> None:
    with pytest.raises(ValueError, match="does not hold 768"):
        replace(SPEC, shape=(3, 384))


def test_the_augmented_view_is_told_by_the_sampling() -> None:
    assert SPEC.augment == 0
    assert replace(SPEC, sampling={"augment": {"index": 3, "seed": 0}}).augment == 3
