"""The cascade on planted squares, with networks that see only those, and its arithmetic."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmdf.extract.faces import detect
from mmdf.extract.faces.detect import DetectorOptions, FaceDetector

# What the stub networks take for a face: bright in the middle, dark around, on grey.
_TEMPLATE = -torch.ones(12, 12)
_TEMPLATE[3:9, 3:9] = 3.0
LANDMARKS = torch.tensor([[0.3, 0.7, 0.5, 0.35, 0.65], [0.4, 0.4, 0.6, 0.8, 0.8]])


class Stub(torch.nn.Module):
    """Correlation with the template; offsets as given."""

    def __init__(self, n_landmarks: int = 0, offset: float = 0.0) -> None:
        super().__init__()
        self.n_landmarks = n_landmarks
        self.offset = offset
        self.sizes: list[int] = []

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.sizes.append(len(pixels))
        return self.match(pixels.mean(1, keepdim=True))

    def match(self, grey: torch.Tensor) -> tuple[torch.Tensor, ...]:
        grey = functional.adaptive_avg_pool2d(grey, 12)
        score = (grey[:, 0] * _TEMPLATE).mean((1, 2)).clamp(0, 1) / 1.5
        landmarks = [LANDMARKS.reshape(1, 10).expand(len(grey), 10)] if self.n_landmarks else []
        return torch.full((len(grey), 4), self.offset), *landmarks, score


class ProposalStub(Stub):
    def match(self, grey: torch.Tensor) -> tuple[torch.Tensor, ...]:
        score = functional.conv2d(grey, _TEMPLATE[None, None] / 144, stride=2).clamp(0, 1)[:, 0] / 1.5
        return torch.full((len(grey), 4, *score.shape[1:]), self.offset), score


def stubbed(options: DetectorOptions | None = None) -> FaceDetector:
    detector = FaceDetector(options or DetectorOptions(thresholds=(0.5, 0.6, 0.6)))
    detector._propose_net, detector._refine_net, detector._output_net = ProposalStub(), Stub(), Stub(10)
    return detector


def planted(size: tuple[int, int], squares: list[tuple[int, int, int]]) -> np.ndarray:
    """Width and height of the frame; x0, y0 and side of each square."""
    frame = np.full((size[1], size[0], 3), 127, np.uint8)
    for x0, y0, side in squares:
        quarter = side // 4
        frame[y0 : y0 + side, x0 : x0 + side] = 0
        frame[y0 + quarter : y0 + side - quarter, x0 + quarter : x0 + side - quarter] = 255
    return frame


@pytest.mark.parametrize(
    ("size", "square"),
    [
        ((640, 360), (200, 100, 60)),
        ((640, 360), (20, 10, 300)),
        ((320, 240), (7, 150, 26)),
        ((1920, 1080), (1500, 300, 400)),
        ((300, 900), (100, 600, 90)),
    ],
)
def test_a_square_is_found_where_it_lies(size: tuple[int, int], square: tuple[int, int, int]) -> None:
    (face,) = stubbed().detect(planted(size, [square]))
    x0, y0, side = square
    np.testing.assert_allclose(face.box, [x0, y0, x0 + side, y0 + side], atol=0.15 * side)
    width = face.box[2] - face.box[0]
    np.testing.assert_allclose(face.landmarks, face.box[:2] + LANDMARKS.T.numpy() * width, rtol=1e-5)
    assert 0.6 < face.confidence <= 1


def test_faces_below_the_smallest_are_not_looked_for() -> None:
    frame = planted((640, 360), [(100, 100, 18), (400, 100, 60)])
    (found,) = stubbed().detect(frame)
    assert abs(found.box[0] - 400) < 10
    options = DetectorOptions(smallest_share=0.04, thresholds=(0.5, 0.6, 0.6), smallest_px=16)
    assert len(stubbed(options).detect(frame)) == 2


def test_frames_do_not_influence_each_other() -> None:
    frames = [planted((320, 240), [(30 * k + 10, 40, 50)]) for k in range(3)] + [planted((90, 70), [])]
    detector = stubbed()
    together = detector.detect_many(frames)
    assert [len(faces) for faces in together] == [1, 1, 1, 0]
    for frame, faces in zip(reversed(frames), reversed(together), strict=True):
        for again, face in zip(detector.detect(frame), faces, strict=True):
            np.testing.assert_array_equal(again.box, face.box)
            np.testing.assert_array_equal(again.landmarks, face.landmarks)


def test_crops_share_a_batch_and_proposals_are_bounded() -> None:
    frame = planted((640, 360), [(x, y, 40) for x in range(20, 600, 90) for y in range(20, 300, 90)])
    detector = stubbed(DetectorOptions(thresholds=(0.5, 0.6, 0.6), max_proposals=5))
    assert len(detector.detect(frame)) <= 5
    assert detector._refine_net.sizes == [5]
    assert len(detector._output_net.sizes) == 1


def test_real_networks_find_nothing_in_noise_or_grey() -> None:
    detector = FaceDetector()
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert detector.detect_many([noise, np.full((16, 16, 3), 90, np.uint8)]) == [[], []]


def test_only_rgb_bytes_are_frames() -> None:
    detector = stubbed()
    for frame in (np.zeros((40, 40, 3), np.float32), np.zeros((40, 40), np.uint8), np.zeros((3, 0, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
            detector.detect(frame)


def test_spec_is_json_and_holds_the_options() -> None:
    spec = FaceDetector(DetectorOptions(smallest_share=0.2)).spec
    assert json.loads(json.dumps(spec)) == spec
    assert spec["smallest_share"] == 0.2
    assert spec["weights_digest"] == detect.weights_digest()


def test_pyramid_covers_from_the_smallest_face_to_the_whole_frame() -> None:
    scales = detect.pyramid_scales((240, 427), 24, DetectorOptions())
    assert scales[0] * 24 == 12
    np.testing.assert_allclose(np.divide(scales[1:], scales[:-1]), 0.709)
    assert 240 * scales[-1] >= 12 > 240 * scales[-1] * 0.709
    assert detect.pyramid_scales((10, 500), 24, DetectorOptions()) == []


def test_cells_become_boxes() -> None:
    probability = torch.zeros(4, 6)
    probability[3, 5] = 0.9
    probability[1, 2] = 0.7
    offsets = torch.zeros(4, 4, 6)
    offsets[:, 3, 5] = torch.tensor([0.25, -0.5, 0.0, 1.0])
    boxes, scores = detect.cell_boxes(offsets, probability, 0.6)
    np.testing.assert_allclose(boxes.numpy(), [[4, 2, 16, 14], [10 + 3, 6 - 6, 22, 18 + 12]])
    np.testing.assert_allclose(scores.numpy(), [0.7, 0.9])


def test_offsets_are_shares_of_width_and_height() -> None:
    moved = detect.regress(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[0.1, 0.1, -0.1, 0.5]]))
    np.testing.assert_allclose(moved.numpy(), [[12, 24, 28, 80]])


def test_squares_keep_the_centre_and_the_longer_side() -> None:
    squares = detect.whole_squares(
        torch.tensor([[10.0, 20.0, 30.0, 60.0], [-3.4, 0.0, 5.0, 2.0], [4.0, 4.0, 4.1, 4.0]])
    )
    assert squares.tolist() == [[0, 20, 40, 60], [-3, -3, 5, 5], [4, 4, 5, 5]]


def test_no_box_is_left_inside_a_better_one() -> None:
    boxes = np.array([[10, 10, 20, 20], [0, 0, 100, 100], [50, 50, 150, 150], [95, 95, 105, 105]], np.float32)
    # The small box lies wholly in the large one, although their IoU is a hundredth.
    assert detect.suppress_nested(boxes, np.array([0.9, 0.95, 0.8, 0.7]), 0.7).tolist() == [1, 2]
    assert detect.suppress_nested(boxes, np.array([0.99, 0.95, 0.8, 0.7]), 0.7).tolist() == [0, 2]
    assert detect.suppress_nested(boxes[:0], np.zeros(0), 0.7).tolist() == []


def test_crops_are_grey_beyond_the_frame() -> None:
    frame = np.full((20, 20, 3), 255, np.uint8)
    crop = detect._crop(frame, -10, 5, 10, 25, 40)
    assert (crop[:28, 22:] == 255).all()
    assert (crop[:, :18] == 127).all()
    assert (crop[32:] == 127).all()
    assert (detect._crop(frame, -50, -50, -30, -30, 24) == 127).all()
