"""The three networks against plain numpy, and the weights' digests."""

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdf.cache.errors import WeightsError
from mmdf.extract.faces import mtcnn

# Kernel and pooling sizes in order; 'same' is TensorFlow's padding.
PNET = (3, (2, "same"), 3, 3)
RNET = (3, (3, "same"), 3, (3, "valid"), 2)
ONET = (3, (3, "same"), 3, (3, "valid"), 3, (2, "same"), 2)


def keras_arrays(network: mtcnn.Network, seed: int) -> list[np.ndarray]:
    """Random weights in the shapes in which Keras keeps them."""
    rng = np.random.default_rng(seed)
    arrays = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            size = module.kernel_size[0]
            shape, fan_in = (size, size, module.in_channels, module.out_channels), size * size * module.in_channels
        elif isinstance(module, torch.nn.Linear):
            shape, fan_in = (module.in_features, module.out_features), module.in_features
        elif isinstance(module, torch.nn.PReLU):
            arrays.append(rng.normal(0.3, 0.3, (1, 1, module.num_parameters)).astype(np.float32))
            continue
        else:
            continue
        arrays += [rng.normal(0, fan_in**-0.5, shape).astype(np.float32), rng.normal(0, 0.1, shape[-1])]
    return arrays


def conv(maps: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    size = len(kernel)
    height, width = maps.shape[0] - size + 1, maps.shape[1] - size + 1
    out = np.zeros((height, width, kernel.shape[3])) + bias
    for dy in range(size):
        for dx in range(size):
            out += maps[dy : dy + height, dx : dx + width] @ kernel[dy, dx]
    return out


def pool(maps: np.ndarray, size: int, padding: str) -> np.ndarray:
    """TensorFlow's max pooling with stride 2, from its documentation."""
    height, width, channels = maps.shape
    if padding == "valid":
        rows, columns, top, left = (height - size) // 2 + 1, (width - size) // 2 + 1, 0, 0
    else:
        rows, columns = -(-height // 2), -(-width // 2)
        top, left = max((rows - 1) * 2 + size - height, 0) // 2, max((columns - 1) * 2 + size - width, 0) // 2
    out = np.zeros((rows, columns, channels))
    for y in range(rows):
        for x in range(columns):
            y0, x0 = 2 * y - top, 2 * x - left
            out[y, x] = maps[max(y0, 0) : y0 + size, max(x0, 0) : x0 + size].max((0, 1))
    return out


def prelu(maps: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.maximum(maps, 0) + slope * np.minimum(maps, 0)


def reference(pixels: np.ndarray, layers: tuple, arrays: list[np.ndarray], n_heads: int, dense: bool) -> list:
    """One picture (H, W, 3) through the trunk and its heads."""
    queue: Iterator[np.ndarray] = iter([a.astype(np.float64) for a in arrays])
    maps = pixels.astype(np.float64)
    for layer in layers:
        if isinstance(layer, tuple):
            maps = pool(maps, *layer)
        else:
            maps = prelu(conv(maps, next(queue), next(queue)), next(queue))
    if dense:
        maps = maps.transpose(1, 0, 2).reshape(-1)
        maps = prelu(maps @ next(queue) + next(queue), next(queue).reshape(-1))
    heads = []
    for _ in range(n_heads):
        kernel, bias = next(queue), next(queue)
        heads.append(maps @ (kernel if dense else kernel[0, 0]) + bias)
    powers = np.exp(heads[-1])
    return [*heads[:-1], (powers / powers.sum(-1, keepdims=True))[..., 1]]


@pytest.mark.parametrize("shape", [(12, 12), (13, 18), (31, 27)])
def test_proposal_net_is_what_the_paper_draws(shape: tuple[int, int]) -> None:
    network = mtcnn.proposal_net()
    arrays = keras_arrays(network, 1)
    mtcnn.fill(network, arrays, "pnet")
    pixels = np.random.default_rng(2).uniform(-1, 1, (*shape, 3)).astype(np.float32)
    boxes, faces = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    expected = reference(pixels, PNET, arrays, 2, dense=False)
    np.testing.assert_allclose(boxes[0].permute(1, 2, 0).numpy(), expected[0], atol=1e-5)
    np.testing.assert_allclose(faces[0].numpy(), expected[1], atol=1e-5)


@pytest.mark.parametrize(
    ("build", "layers", "size_px", "n_heads"),
    [(mtcnn.refine_net, RNET, 24, 2), (mtcnn.output_net, ONET, 48, 3)],
    ids=["rnet", "onet"],
)
def test_dense_nets_are_what_the_paper_draws(build: Callable, layers: tuple, size_px: int, n_heads: int) -> None:
    network = build()
    arrays = keras_arrays(network, 3)
    mtcnn.fill(network, arrays, "net")
    pixels = np.random.default_rng(4).uniform(-1, 1, (2, size_px, size_px, 3)).astype(np.float32)
    found = network(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert len(found) == n_heads
    for row in range(2):
        for head, expected in zip(found, reference(pixels[row], layers, arrays, n_heads, dense=True), strict=True):
            np.testing.assert_allclose(head[row].numpy(), expected, atol=1e-5)


def test_wrong_arrays_are_refused() -> None:
    network = mtcnn.proposal_net()
    arrays = keras_arrays(network, 1)
    with pytest.raises(WeightsError, match="13 arrays; 12 came"):
        mtcnn.fill(network, arrays[:-1], "pnet")
    arrays[3] = arrays[3].transpose(0, 1, 3, 2)
    with pytest.raises(WeightsError, match="array 3 of pnet"):
        mtcnn.fill(network, arrays, "pnet")


class Trap:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


def test_a_changed_file_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "sprung"
    weights = tmp_path / "package" / "assets" / "weights"
    weights.mkdir(parents=True)
    (weights / "pnet.lz4").write_bytes(pickle.dumps(Trap(trap)))
    monkeypatch.setattr(mtcnn, "weights_file", lambda name: weights / f"{name}.lz4")
    with pytest.raises(WeightsError, match=r"pnet\.lz4 is not the file we know.*mtcnn==1\.0\.0"):
        mtcnn.load_networks()
    assert not trap.exists()


def test_a_missing_package_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"onet\.lz4.*pip install mtcnn==1\.0\.0"):
        mtcnn.weights_file("onet")


def test_real_weights_load_without_their_package() -> None:
    proposal, refine, output = mtcnn.load_networks()
    assert "mtcnn" not in sys.modules
    assert "tensorflow" not in sys.modules
    grey = torch.zeros(1, 3, 48, 48)
    with torch.inference_mode():
        for network, size_px in ((proposal, 12), (refine, 24), (output, 48)):
            probability = network(grey[:, :, :size_px, :size_px])[-1]
            assert float(probability.max()) < 0.2, "plain grey is no face"


def test_digest_names_these_weights() -> None:
    assert mtcnn.weights_digest() == "f2836e484b6b1f84a722098b32425d412ee0c7910806e5eb84fca52db6544ddb"
