"""RetinaFace by the package uniface, a better detector where its weights may be downloaded. Not needed by anything.

Weights come from the package's own store on first use, which checks them. Written against uniface 4.2 and not run
here, where nothing may be downloaded.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from mmdf.cache.errors import WeightsError
from mmdf.extract.faces.base import Face, check_frame


class RetinaFaceDetector:
    """A `Detector` by uniface's RetinaFace with its default weights (MobileNetV2), which doubts below 0.5 anyway."""

    def __init__(self, confidence: float = 0.5) -> None:
        """Load, and on first use fetch, the weights. Raises `WeightsError` if uniface is not installed."""
        try:
            self._model: Any = import_module("uniface.detection").RetinaFace()
            installed = version("uniface")
        except (ImportError, PackageNotFoundError) as error:
            raise WeightsError(
                f"The detector 'retinaface' needs the package uniface, which cannot be imported ({error}). "
                "Fetch it: pip install uniface onnxruntime, or use the detector 'mtcnn'."
            ) from error
        self.confidence = confidence
        self.spec: dict[str, Any] = {"detector": "retinaface", "package": f"uniface {installed}", "least": confidence}

    def detect(self, frame: np.ndarray) -> list[Face]:
        """Faces in a frame (H, W, 3) uint8 RGB, most confident first."""
        check_frame(frame)
        # uniface takes frames as OpenCV reads them, blue first.
        found = self._model.detect(np.ascontiguousarray(frame[:, :, ::-1]))
        faces = [
            Face(np.asarray(f.bbox, np.float32)[:4], float(f.confidence), np.asarray(f.landmarks, np.float32))
            for f in found
            if f.confidence >= self.confidence
        ]
        return sorted(faces, key=lambda face: -face.confidence)
