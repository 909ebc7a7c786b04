"""The adapter for uniface, with a stand-in for that package."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mmdf.cache.errors import WeightsError
from mmdf.extract.faces import retinaface


def test_a_missing_package_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uniface", None)
    with pytest.raises(WeightsError, match="pip install uniface"):
        retinaface.RetinaFaceDetector()


def test_faces_are_translated_and_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def detect(self, image: np.ndarray) -> list:
            assert image[0, 0].tolist() == [3, 2, 1], "uniface wants blue first"
            points = np.zeros((5, 2))
            return [SimpleNamespace(bbox=[0, 1, 2, 3], confidence=c, landmarks=points) for c in (0.6, 0.4, 0.9)]

    module = ModuleType("uniface.detection")
    module.RetinaFace = Model
    monkeypatch.setitem(sys.modules, "uniface", ModuleType("uniface"))
    monkeypatch.setitem(sys.modules, "uniface.detection", module)
    monkeypatch.setattr(retinaface, "version", lambda name: "4.2.1")
    detector = retinaface.RetinaFaceDetector(0.5)
    found = detector.detect(np.full((20, 20, 3), (1, 2, 3), np.uint8))
    assert [f.confidence for f in found] == [0.9, 0.6]
    assert found[0].box.tolist() == [0, 1, 2, 3]
    assert found[0].landmarks.shape == (5, 2)
    assert detector.spec["package"] == "uniface 4.2.1"
