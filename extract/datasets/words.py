"""The words that datasets use for classes, splits and file types, and what they mean here.

Knows nothing of folders, tables or manifests. All words are compared in lower case.
"""

REAL, FAKE = 0, 1

CLASS_WORDS: dict[str, int] = {
    "real": REAL,
    "0_real": REAL,
    "nature": REAL,
    "bonafide": REAL,
    "bona-fide": REAL,
    "bona_fide": REAL,
    "genuine": REAL,
    "original": REAL,
    "fake": FAKE,
    "1_fake": FAKE,
    "ai": FAKE,
    "spoof": FAKE,
    "deepfake": FAKE,
    "manipulated": FAKE,
}

SPLIT_WORDS: dict[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
}

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "image": ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif"),
    "audio": ("wav", "flac", "ogg", "mp3", "opus", "m4a", "aac"),
    "video": ("mp4", "mkv", "webm", "avi", "mov", "mpg", "mpeg", "m4v"),
}
_MODALITY = {extension: modality for modality, extensions in EXTENSIONS.items() for extension in extensions}


def modality_of(path: str) -> str | None:
    """The modality that a file's extension stands for; None for an extension that is no medium's."""
    return _MODALITY.get(path.rpartition(".")[2].lower())
