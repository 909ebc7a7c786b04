"""Faces in one frame by MTCNN, cheap enough for one CPU core. Knows nothing of clips: see track.py.

The cascade of Zhang et al. 2016 (arXiv 1604.02878), section II: a pyramid through P-Net proposes, R-Net and O-Net
refine. Where we differ: frames are first scaled down so that the smallest face worth finding is 24 px, R-Net's input;
O-Net looks at the full frame again; and crops are whole pixels, with grey beyond the edges.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from mmdf.extract.faces.base import Face, check_frame
from mmdf.extract.faces.mtcnn import Network, load_networks, weights_digest

_CELL_PX, _STRIDE_PX, _REFINE_PX, _OUTPUT_PX = 12, 2, 24, 48
_GREY = (127, 127, 127)


@dataclass(frozen=True)
class DetectorOptions:
    """What the cascade looks for.

    Attributes
    ----------
    smallest_share, smallest_px
        Side of the smallest face: a share of the frame's short side, but never below so many pixels of the frame.
    pyramid_factor
        From one level of the pyramid to the next.
    thresholds
        Least confidence after P-, R- and O-Net.
    level_iou, proposal_iou, refine_iou
        Overlap from which the less confident box goes: within a level, between levels, after R-Net.
    output_overlap
        The same after O-Net, as a share of the smaller box, so that no box is left inside another.
    max_proposals
        The most confident ones go on; bounds the cost of frames full of pattern.
    """

    smallest_share: float = 0.1
    smallest_px: int = 20
    pyramid_factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8)
    level_iou: float = 0.5
    proposal_iou: float = 0.7
    refine_iou: float = 0.7
    output_overlap: float = 0.7
    max_proposals: int = 256


class FaceDetector:
    """MTCNN on the CPU. Threads are torch's and OpenCV's own; decode workers should give them one each."""

    def __init__(self, options: DetectorOptions | None = None) -> None:
        """Load the weights. Raises `WeightsError` if they are not on this machine."""
        self.options = options or DetectorOptions()
        self._propose_net, self._refine_net, self._output_net = load_networks()
        self.spec: dict[str, Any] = {
            "detector": "mtcnn",
            "weights_digest": weights_digest(),
            **asdict(self.options),
            "thresholds": list(self.options.thresholds),
        }

    def detect(self, frame: np.ndarray) -> list[Face]:
        """Faces in a frame (H, W, 3) uint8 RGB, most confident first. Raises `ValueError` for another shape or type."""
        check_frame(frame)
        smallest_px = max(self.options.smallest_px, self.options.smallest_share * min(frame.shape[:2]))
        small = _shrink(frame, min(1.0, _REFINE_PX / smallest_px))
        scale = small.shape[1] / frame.shape[1]
        with torch.inference_mode():
            boxes = self._refine(small, self._propose(small, smallest_px * scale))
            return self._output(frame, boxes / scale)

    def detect_many(self, frames: Iterable[np.ndarray]) -> list[list[Face]]:
        """`detect` of each frame. What is found in one never depends on the others."""
        return [self.detect(frame) for frame in frames]

    def _propose(self, image: np.ndarray, smallest_px: float) -> torch.Tensor:
        found = [self._level(image, scale) for scale in pyramid_scales(image.shape[:2], smallest_px, self.options)]
        boxes = torch.cat([torch.zeros(0, 4), *(level[0] for level in found)])
        scores = torch.cat([torch.zeros(0), *(level[1] for level in found)])
        return boxes[nms(boxes, scores, self.options.proposal_iou)[: self.options.max_proposals]]

    def _level(self, image: np.ndarray, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        level = _shrink(image, scale)
        offsets, probability = self._propose_net(_to_input(level[None]))
        boxes, scores = cell_boxes(offsets[0], probability[0], self.options.thresholds[0])
        stretch = torch.tensor([image.shape[1] / level.shape[1], image.shape[0] / level.shape[0]])
        kept = nms(boxes, scores, self.options.level_iou)
        return boxes[kept] * stretch.repeat(2), scores[kept]

    def _refine(self, image: np.ndarray, proposed: torch.Tensor) -> torch.Tensor:
        squares = whole_squares(proposed)
        offsets, scores = _in_one_batch(self._refine_net, image, squares, _REFINE_PX)
        sure = scores > self.options.thresholds[1]
        boxes, scores = regress(squares, offsets)[sure], scores[sure]
        return boxes[nms(boxes, scores, self.options.refine_iou)]

    def _output(self, frame: np.ndarray, refined: torch.Tensor) -> list[Face]:
        squares = whole_squares(refined)
        offsets, points, scores = _in_one_batch(self._output_net, frame, squares, _OUTPUT_PX)
        sides = (squares[:, 2:] - squares[:, :2])[:, None]
        landmarks = squares[:, None, :2] + points.view(-1, 2, 5).transpose(1, 2) * sides
        boxes = regress(squares, offsets)
        sure = torch.nonzero(scores > self.options.thresholds[2]).flatten()
        kept = sure[suppress_nested(boxes[sure].numpy(), scores[sure].numpy(), self.options.output_overlap)]
        return [Face(boxes[i].numpy(), float(scores[i]), landmarks[i].numpy()) for i in kept.tolist()]


def pyramid_scales(shape: tuple[int, int], smallest_px: float, options: DetectorOptions) -> list[float]:
    """Scales at which `smallest_px` and larger sides become P-Net's 12 px; the coarsest level still has 12 px."""
    scales = []
    scale = _CELL_PX / smallest_px
    while min(shape) * scale >= _CELL_PX:
        scales.append(scale)
        scale *= options.pyramid_factor
    return scales


def cell_boxes(offsets: torch.Tensor, probability: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """P-Net's maps, (4, h, w) and (h, w), to boxes (n, 4) in px of its level and their scores (n,)."""
    rows, columns = torch.nonzero(probability > threshold, as_tuple=True)
    corners = torch.stack([columns, rows], 1).float() * _STRIDE_PX
    cells = torch.cat([corners, corners + _CELL_PX], 1)
    return regress(cells, offsets[:, rows, columns].T), probability[rows, columns]


def regress(boxes: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Move the corners of `boxes` (n, 4) by `offsets` (n, 4), which are shares of width and height."""
    return boxes + offsets * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def whole_squares(boxes: torch.Tensor) -> torch.Tensor:
    """The square about each box's centre with its longer side, in whole pixels and at least one, (n, 4)."""
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).round().clamp(min=1)
    corners = ((boxes[:, :2] + boxes[:, 2:] - sides) / 2).round()
    return torch.cat([corners, corners + sides], 1)


def suppress_nested(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Rows to keep, best first, of boxes (n, 4): none shares more than `overlap` of the smaller one with a better."""
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for row in np.argsort(-scores, kind="stable").tolist():
        low, high = np.maximum(boxes[row, :2], boxes[kept, :2]), np.minimum(boxes[row, 2:], boxes[kept, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        if (shared <= overlap * np.minimum(areas[row], areas[kept])).all():
            kept.append(row)
    return np.array(kept, np.int64)


def _in_one_batch(net: Network, image: np.ndarray, squares: torch.Tensor, size_px: int) -> tuple[torch.Tensor, ...]:
    crops = np.zeros((len(squares), size_px, size_px, 3), np.uint8)
    for row, (x0, y0, x1, y1) in enumerate(squares.int().tolist()):
        crops[row] = _crop(image, x0, y0, x1, y1, size_px)
    return net(_to_input(crops))


def _crop(image: np.ndarray, x0: int, y0: int, x1: int, y1: int, size_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    inside = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        if 0 in inside.shape:
            return np.full((size_px, size_px, 3), _GREY, np.uint8)
        top, left = max(-y0, 0), max(-x0, 0)
        bottom, right = max(y1 - height, 0), max(x1 - width, 0)
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_GREY)
    shrinks = y1 - y0 > size_px
    return cv2.resize(inside, (size_px, size_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _shrink(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _to_input(pixels: np.ndarray) -> torch.Tensor:
    """(n, H, W, 3) uint8 to (n, 3, H, W) float32 in about [-1, 1], as the networks were trained."""
    return (torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() - 127.5) / 128
