"""The small layers: statistics from present rows only, masks that hold, dropout that never takes all."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from mmdf.fuse.layers import Standardiser, drop_features, masked_mean


def test_standardiser_agrees_with_scikit_learn_on_present_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (50, 4)).astype(np.float32)
    present = rng.random(50) < 0.7
    layer = Standardiser(4)
    poisoned = np.where(present[:, None], x, np.nan).astype(np.float32)
    layer.fit(torch.from_numpy(poisoned), torch.from_numpy(present))
    expected = StandardScaler().fit(x[present]).transform(x[present])
    found = layer(torch.from_numpy(poisoned), torch.from_numpy(present)).numpy()
    np.testing.assert_allclose(found[present], expected, atol=1e-5)
    assert (found[~present] == 0).all()


def test_a_constant_dimension_comes_out_as_zero_even_when_it_moves_later() -> None:
    x = torch.tensor([[1.0, 0.0, 1000.0], [2.0, 0.0, 1000.0], [3.0, 0.0, 1000.0]])
    layer = Standardiser(3)
    layer.fit(x, torch.ones(3, dtype=torch.bool))
    assert layer.scale.tolist()[1:] == [1.0, 1.0]
    out = layer(torch.tensor([[2.0, 7.0, 1003.0]]), torch.ones(1, dtype=torch.bool))
    assert out.tolist() == [[0.0, 0.0, 0.0]]


def test_large_embeddings_with_a_small_spread_keep_their_digits() -> None:
    x = 500 + torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    layer = Standardiser(1)
    layer.fit(x, torch.ones(2000, dtype=torch.bool))
    assert abs(float(layer.scale) - float(x.double().std(correction=0))) < 1e-4


def test_masked_mean_does_not_see_hidden_values() -> None:
    values = torch.tensor([[1.0, 3.0], [5.0, torch.nan], [torch.nan, torch.nan]])
    assert masked_mean(values, ~values.isnan()).tolist() == [2.0, 5.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_feature_dropout_hides_only_present_features_and_never_the_last(mask, p, seed) -> None:
    present = torch.tensor(mask)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kept = drop_features(present, p)
    assert not (kept & ~present).any()
    assert (kept.any(1) == present.any(1)).all()


def test_feature_dropout_hides_at_its_rate() -> None:
    present = torch.ones(20000, 4, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = drop_features(present, 0.25)
    # All four go together with 0.25^4; then one of them is saved.
    assert abs(kept.double().mean() - (0.75 + 0.25**4 / 4)) < 0.005
    assert torch.equal(drop_features(present, 0.0), present)
