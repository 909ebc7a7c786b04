"""The three networks of MTCNN and their weights. Knows nothing of frames, pyramids or boxes: see detect.py.

Zhang et al. 2016 (arXiv 1604.02878), figure 2, as trained by Sandberg and shipped in the package mtcnn 1.0.0 (MIT).
That package is never imported, since it wants TensorFlow; only its three files of weights are read. They are pickles,
so nothing of them is unpickled before its digest is checked.
"""

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmdf.cache.errors import WeightsError

PACKAGE = "mtcnn==1.0.0"
WEIGHTS_SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}


class ColumnByColumn(nn.Module):
    """Flattens in the order W, H, C: the networks were trained in MATLAB on pictures stored column by column.

    In the order H, W, C they still find most faces, but fewer, and doubt them more.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) to (n, W * H * C)."""
        return maps.permute(0, 3, 2, 1).flatten(1)


class Network(nn.Module):
    """A trunk and its heads: box (4), landmarks (10, O-Net only) and face against background (2), in that order."""

    def __init__(self, trunk: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*trunk)
        self.heads = nn.ModuleList(heads)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pixels (n, 3, H, W) in [-1, 1] to the heads' outputs, the last one as the probability of a face, (n, ...)."""
        found = self.trunk(pixels)
        *others, classes = [head(found) for head in self.heads]
        return *others, classes.softmax(1)[:, 1]


def _conv(inputs: int, outputs: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size), nn.PReLU(outputs)]


def _pool(size: int) -> nn.Module:
    # TensorFlow's 'same' padding, which equals ceil_mode for the even maps that 24 and 48 px give.
    return nn.MaxPool2d(size, 2, ceil_mode=True)


def proposal_net() -> Network:
    """P-Net, fully convolutional: 12 px a face, one output every 2 px."""
    trunk = [*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3)]
    return Network(trunk, [nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)])


def refine_net() -> Network:
    """R-Net: (n, 3, 24, 24)."""
    trunk = [*_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2)]
    trunk += [ColumnByColumn(), nn.Linear(576, 128), nn.PReLU(128)]
    return Network(trunk, [nn.Linear(128, 4), nn.Linear(128, 2)])


def output_net() -> Network:
    """O-Net: (n, 3, 48, 48). Landmarks come as five x, then five y, in shares of the box."""
    trunk = [*_conv(3, 32, 3), _pool(3), *_conv(32, 64, 3), _pool(3), *_conv(64, 64, 3), _pool(2), *_conv(64, 128, 2)]
    trunk += [ColumnByColumn(), nn.Linear(1152, 256), nn.PReLU(256)]
    return Network(trunk, [nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)])


def load_networks() -> tuple[Network, Network, Network]:
    """P-, R- and O-Net with their weights, on the CPU, in float32.

    Raises
    ------
    WeightsError
        If a file is missing, is not the one we know, or does not fit its network.
    """
    networks = (proposal_net(), refine_net(), output_net())
    for name, network in zip(WEIGHTS_SHA256, networks, strict=True):
        fill(network, _arrays(name), name)
    return networks


def weights_digest() -> str:
    """One sha256 for the three files, for fingerprints. Reads none of them: what is loaded always has these digests."""
    return hashlib.sha256("".join(WEIGHTS_SHA256.values()).encode()).hexdigest()


def weights_file(name: str) -> Path:
    """Where the package keeps the weights of `name`, found without importing it. Raises `WeightsError`."""
    found = importlib.util.find_spec("mtcnn")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        file = Path(folder) / "assets" / "weights" / f"{name}.lz4"
        if file.is_file():
            return file
    raise WeightsError(
        f"The face detector's weights {name}.lz4 come with the package mtcnn, which is not installed or incomplete. "
        f"Fetch them: pip install {PACKAGE}"
    )


def _arrays(name: str) -> list[np.ndarray]:
    file = weights_file(name)
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != WEIGHTS_SHA256[name]:
        raise WeightsError(
            f"{file} is not the file we know (sha256 {digest[:12]}, wanted {WEIGHTS_SHA256[name][:12]}), so it was "
            f"not opened. Fetch it anew: pip install --force-reinstall {PACKAGE}"
        )
    import joblib  # type: ignore[import-untyped, unused-ignore]

    # The very bytes whose digest was checked, so that nobody changes the file in between.
    return joblib.load(io.BytesIO(data))


def fill(network: Network, arrays: Sequence[np.ndarray], name: str) -> None:
    """Put Keras arrays into `network`, in its order: HWIO kernels, (in, out) matrices, PReLU slopes as (1, 1, C).

    Raises
    ------
    WeightsError
        If their number or a shape does not fit.
    """
    wanted = list(network.parameters())
    if len(wanted) != len(arrays):
        raise WeightsError(f"{name} has {len(wanted)} arrays; {len(arrays)} came. Install {PACKAGE}.")
    with torch.no_grad():
        for place, (parameter, array) in enumerate(zip(wanted, arrays, strict=True)):
            value = _to_torch(np.asarray(array, np.float32))
            if value.shape != parameter.shape:
                raise WeightsError(
                    f"array {place} of {name} should become {tuple(parameter.shape)}; it is {array.shape}. "
                    f"Install {PACKAGE}."
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    # Pixels come channels last, and pooling is several times faster so.
    network.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def _to_torch(array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 else array.reshape(-1)
