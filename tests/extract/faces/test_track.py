"""Which face a clip is about, on planted detections."""

import subprocess
import sys

import numpy as np
import pytest

from mmdf.extract.faces.base import Face
from mmdf.extract.faces.track import FaceTrack, geometry, iou, link, main_track, resample, smooth


def face(x: float, y: float, side: float, confidence: float = 0.9) -> Face:
    """A square face about (x, y)."""
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    places = np.array([[-0.2, -0.1], [0.2, -0.1], [0, 0.1], [-0.15, 0.3], [0.15, 0.3]])
    return Face(box, confidence, (np.array([x, y]) + places * side).astype(np.float32))


def centres(track: FaceTrack) -> list[float]:
    return ((track.boxes[:, 0] + track.boxes[:, 2]) / 2).tolist()


def test_the_main_face_is_large_and_lasting() -> None:
    times_s = np.arange(6.0)
    large, small = [face(100 + 5 * k, 100, 80) for k in range(6)], [face(300, 100, 50) for _ in range(6)]
    track = main_track([[s, g] for g, s in zip(large, small, strict=True)], times_s)
    assert centres(track) == [100, 105, 110, 115, 120, 125]
    assert (track.confidences == np.float32(0.9)).all()
    # A larger face in a single frame counts less than a smaller one that stays.
    detections = [[f] for f in small]
    detections[2].append(face(600, 300, 110))
    assert centres(main_track(detections, times_s)) == [300] * 6
    # Unless it is sure and the other is not.
    unsure = [[face(300, 100, 50, 0.1)] for _ in range(6)]
    unsure[2].append(face(600, 300, 110))
    assert centres(main_track(unsure, times_s)) == [600] * 6


def test_gaps_are_linear_in_time_and_ends_are_held() -> None:
    times_s = np.array([0.0, 1.0, 2.0, 5.0, 6.0, 9.0])
    track = main_track([[], [face(100, 50, 40)], [], [face(140, 50, 80)], [], []], times_s)
    assert centres(track) == [100, 100, 110, 140, 140, 140]
    sides = track.boxes[:, 2] - track.boxes[:, 0]
    assert sides.tolist() == [40, 40, 50, 80, 80, 80]
    np.testing.assert_allclose(track.landmarks[2], face(110, 50, 50).landmarks, atol=1e-4)
    np.testing.assert_allclose(track.confidences, [0, 0.9, 0, 0.9, 0, 0])
    assert track.times_s.tolist() == times_s.tolist()


def test_no_face_is_no_track() -> None:
    assert main_track([[], [], []], np.arange(3.0)) is None
    assert main_track([], np.zeros(0)) is None


def test_sparse_faces_are_linked_by_distance_and_size() -> None:
    # No overlap between neighbours: one face size of movement in two seconds.
    moving = [[face(100 + 90 * k, 100, 80)] for k in range(4)]
    assert [len(t) for t in link(moving, 2.0 * np.arange(4))] == [4]
    # The same at once, or of quite another size, is somebody else.
    assert len(link([[face(100, 100, 80)], [face(190, 100, 80)]], np.array([0.0, 0.04]))) == 2
    assert len(link([[face(100, 100, 80)], [face(150, 150, 30)]], np.array([0.0, 2.0]))) == 2
    assert len(link([[face(100, 100, 80)], [face(420, 100, 80)]], np.array([0.0, 60.0]))) == 2


def test_two_neighbours_are_not_mixed_up() -> None:
    left, right = [face(100 + 30 * k, 100, 80) for k in range(4)], [face(200 + 30 * k, 100, 80) for k in range(4)]
    tracks = link([[r, g] for g, r in zip(left, right, strict=True)], 0.2 * np.arange(4))
    found = sorted([[float(f.box[0]) for _, f in track] for track in tracks])
    assert found == [[60, 90, 120, 150], [160, 190, 220, 250]]


def test_a_missed_face_is_found_again() -> None:
    tracks = link([[face(100, 100, 80)], [], [], [face(110, 100, 80)]], 0.2 * np.arange(4))
    assert [[row for row, _ in track] for track in tracks] == [[0, 3]]


def test_a_track_goes_to_denser_times() -> None:
    track = main_track([[face(100, 50, 40)], [face(120, 50, 40)]], np.array([1.0, 2.0]))
    dense = resample(track, np.array([0.5, 1.0, 1.25, 2.0, 2.5]))
    assert centres(dense) == [100, 100, 105, 120, 120]
    np.testing.assert_allclose(dense.confidences, [0, 0.9, 0, 0.9, 0])
    assert dense.landmarks.shape == (5, 5, 2)


def test_smoothing_keeps_steady_motion_and_calms_jitter() -> None:
    rng = np.random.default_rng(0)
    steady = main_track([[face(100 + 3 * k, 50, 60)] for k in range(30)], 0.2 * np.arange(30))
    np.testing.assert_allclose(smooth(steady).boxes, steady.boxes, atol=1e-4)
    jittery = FaceTrack(
        steady.times_s,
        steady.boxes + rng.normal(0, 2, (30, 4)).astype(np.float32),
        steady.confidences,
        steady.landmarks + rng.normal(0, 2, (30, 5, 2)).astype(np.float32),
    )
    calm = smooth(jittery)
    assert np.std(calm.boxes - steady.boxes) < 0.6 * np.std(jittery.boxes - steady.boxes)
    assert np.std(calm.landmarks - steady.landmarks) < 0.6 * np.std(jittery.landmarks - steady.landmarks)
    np.testing.assert_allclose(calm.boxes[10], jittery.boxes[8:13].mean(0), rtol=1e-5)
    assert (calm.confidences == jittery.confidences).all()


def test_smoothing_does_not_reach_across_a_cut() -> None:
    track = main_track([[face(100, 50, 60)]] * 4 + [[face(160, 50, 60)]] * 4, 1.0 * np.arange(8))
    assert centres(smooth(track)) == [100] * 4 + [160] * 4
    with pytest.raises(ValueError, match="odd"):
        smooth(track, 4)


def test_geometry_is_relative_to_the_frame() -> None:
    track = main_track([[face(100, 50, 40, 0.75)]], np.zeros(1))
    found = geometry(track, (400, 200))
    assert found.shape == (1, 15)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, :5], [0.2, 0.15, 0.3, 0.35, 0.75])
    np.testing.assert_allclose(found[0, 5:7], [92 / 400, 46 / 200])
    np.testing.assert_allclose(found[0, 13:], [106 / 400, 62 / 200])
    with pytest.raises(ValueError, match="width and height"):
        geometry(track, (0, 200))


def test_intersection_over_union() -> None:
    box = np.array([0.0, 0.0, 2.0, 2.0])
    assert iou(box, box) == 1
    assert iou(box, np.array([1.0, 0.0, 3.0, 2.0])) == pytest.approx(1 / 3)
    assert iou(box, np.array([5.0, 0.0, 6.0, 2.0])) == 0


def test_times_must_fit() -> None:
    with pytest.raises(ValueError, match="as many times"):
        main_track([[]], np.arange(2.0))
    with pytest.raises(ValueError, match="ascending"):
        main_track([[], []], np.array([1.0, 0.0]))


def test_tracks_and_crops_need_no_torch() -> None:
    code = "import sys, mmdf.extract.faces.track, mmdf.extract.faces.crop; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
