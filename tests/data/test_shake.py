from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.data.shake import (
    blur_length,
    exposure_times,
    path_length,
    plane_homographies,
    read_orientation_log,
    recorded_rotations,
    rotation_matrices,
    shutter_times,
    smooth_path,
    transform_points,
)
from unsmear.errors import InputError

STRAIGHT = torch.tensor([[0.0, 0.0, 1.0]])


def one_camera(rotation=None, translation=None, focal=500.0, principal=(0.0, 0.0)):
    rotation = torch.zeros(1, 3) if rotation is None else rotation
    translation = torch.zeros(1, 3) if translation is None else translation
    return plane_homographies(
        rotation_matrices(rotation), translation, STRAIGHT,
        torch.tensor([focal]), torch.tensor([principal]),
    )  # fmt: skip


def test_exposures_are_centred_and_as_long_as_the_duty():
    times = exposure_times(5, 7, torch.tensor([0.5, 1.0]))
    assert times.shape == (2, 5, 7)
    torch.testing.assert_close(times[0, :, 3], torch.arange(-2.0, 3.0))
    # Each sample covers a seventh of the exposure: duty 1 leaves no gap between frames.
    torch.testing.assert_close(times.diff(dim=2)[:, 0, 0], torch.tensor([0.5, 1.0]) / 7)
    torch.testing.assert_close(times[1, 1, 0] - times[1, 0, -1], torch.tensor(1 / 7))


@pytest.mark.parametrize("samples", [7, 9, 33])
def test_samples_spread_as_the_whole_exposure_does(samples):
    """The visible length of a blur is its spread: a variance of 1/12 of its squared length."""
    times = exposure_times(1, samples, torch.tensor([0.8]))[0, 0]
    assert float(times.var(correction=0)) == pytest.approx(0.8**2 / 12, rel=1 / samples**2 + 1e-4)


def test_even_samples_have_no_middle():
    with pytest.raises(ValueError, match="odd"):
        exposure_times(3, 4, torch.ones(1))


def test_paths_start_at_rest_and_are_smooth():
    generator = torch.Generator().manual_seed(1)
    times = torch.linspace(-2, 2, 401).expand(8, 401)
    path = smooth_path(times, 6, generator)
    assert path.shape == (8, 401, 6)
    torch.testing.assert_close(path[:, 200], torch.zeros(8, 6), atol=1e-5, rtol=0)
    steps = path.diff(dim=1)
    assert (steps.diff(dim=1).norm() / steps.norm()) < 0.05  # consecutive steps are similar
    again = smooth_path(times, 6, torch.Generator().manual_seed(1))
    assert torch.equal(path, again)


def test_waves_of_any_frequency_carry_the_same_energy():
    """Amplitudes fall with the frequency, so each of six waves has a mean squared velocity of 1/2.
    The frequencies are log-uniform: the mean of f**2 is (fastest**2 - slowest**2) / (2 * octaves *
    ln 2).
    """
    step = 1e-3
    times = step * torch.arange(-1, 2, dtype=torch.float64).expand(10_000, 3)
    path = smooth_path(times, 2, torch.Generator().manual_seed(0))
    velocity = (path[:, 2] - path[:, 0]) / (2 * step)
    change = (path[:, 2] - 2 * path[:, 1] + path[:, 0]) / step**2
    assert float(velocity.square().mean()) == pytest.approx(6 / 2, rel=0.05)
    squared = (0.45**2 - 0.02**2) / (2 * math.log(0.45 / 0.02))
    expected = 6 / 2 * (2 * math.pi) ** 2 * squared
    assert float(change.square().mean()) == pytest.approx(expected, rel=0.05)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_rotations_are_rotations(vector):
    matrix = rotation_matrices(torch.tensor(vector, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3).double(), atol=1e-9, rtol=0)
    assert math.isclose(float(torch.linalg.det(matrix)), 1, abs_tol=1e-5)
    angle = math.acos(max(-1.0, min(1.0, (float(matrix.trace()) - 1) / 2)))
    assert math.isclose(angle, math.hypot(*vector), abs_tol=2e-3)


def test_yaw_moves_the_picture_sideways_by_focal_times_tangent():
    moved = transform_points(one_camera(torch.tensor([[0.0, 0.02, 0.0]])), torch.zeros(1, 2))
    torch.testing.assert_close(
        moved[0, 0], torch.tensor([500 * math.tan(0.02), 0.0]), atol=1e-3, rtol=0
    )


def test_roll_turns_about_the_optical_axis():
    axis = (30.0, -20.0)
    homography = one_camera(torch.tensor([[0.0, 0.0, 0.1]]), principal=axis)
    points = torch.tensor([axis, (130.0, -20.0)])
    moved = transform_points(homography, points)[0]
    torch.testing.assert_close(moved[0], points[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(
        moved[1] - moved[0], 100 * torch.tensor([math.cos(0.1), math.sin(0.1)]), atol=1e-2, rtol=0
    )


def test_walking_forward_spreads_from_the_centre():
    homography = one_camera(translation=torch.tensor([[0.0, 0.0, 0.1]]))
    moved = transform_points(homography, torch.tensor([[0.0, 0.0], [110.0, 0.0]]))[0]
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0.0], [100.0, 0.0]]), atol=1e-3, rtol=0)


def test_a_step_aside_moves_the_whole_picture_alike():
    homography = one_camera(translation=torch.tensor([[0.02, -0.01, 0.0]]))
    points = torch.tensor([[0.0, 0.0], [110.0, -40.0]])
    moved = transform_points(homography, points)[0] - points
    torch.testing.assert_close(moved, torch.tensor([[10.0, -5.0]] * 2), atol=1e-3, rtol=0)


def test_blur_length_of_a_known_pan():
    shift = torch.eye(3).repeat(1, 1, 5, 1, 1)
    shift[0, 0, :, 0, 2] = 8 * shutter_times(5)
    torch.testing.assert_close(blur_length(shift, 64, 48), torch.tensor([[8.0]]))


def test_length_of_a_straight_path_is_that_of_its_whole_exposure():
    ways = torch.tensor([[2.0, 3.0, 6.0], [0.0, 0.0, 1.0]])  # 7 in the first frame, 1 in the second
    path = ways[:, None] * shutter_times(5)[:, None]
    torch.testing.assert_close(path_length(path[None]), torch.tensor([4.0]))


def log_text(angles, interval_ns=5_000_000):
    lines = ["1428589782694", "3.97"]
    for index, angle in enumerate(angles):
        c, s = math.cos(angle), math.sin(angle)
        values = [c, 0, s, 0, 1, 0, -s, 0, c]
        lines.append(f"{1000 + index}, {index * interval_ns}, {values}")
    return "\n".join(lines)


def test_recorded_log_gives_the_recorded_turn(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(log_text([0.002 * index for index in range(101)]))  # 0.4 rad/s about y
    log = read_orientation_log(path)
    assert log.duration == 0.5
    times = torch.tensor([[-1.0, 0.0, 0.52, 1.0]])  # the third lies between two samples
    rotation = recorded_rotations(log, times, start=0.25, frame_interval=0.1)
    torch.testing.assert_close(rotation[0, 1], torch.eye(3), atol=1e-6, rtol=0)
    for index, angle in ((0, -0.04), (2, 0.0208), (3, 0.04)):
        # y points up in the device, down in the image: the rotation changes its sign.
        expected = rotation_matrices(torch.tensor([0.0, -angle, 0.0]))
        torch.testing.assert_close(rotation[0, index], expected, atol=1e-4, rtol=0)


def test_samples_are_put_in_order_with_their_rotations(tmp_path):
    lines = log_text([0.1, 0.3, 0.4, 0.2]).splitlines()
    logs = []
    for name, order in (("a", lines), ("b", [*reversed(lines), lines[2]])):
        (tmp_path / name).write_text("\n".join(order))
        logs.append(read_orientation_log(tmp_path / name))
    assert torch.equal(logs[0].seconds, logs[1].seconds)
    assert torch.equal(logs[0].rotations, logs[1].rotations)


def test_two_samples_are_a_log_that_stands_still_before_and_after(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(log_text([0.1, 0.2]).replace("1000, 0,", "1000, 1000000,"))
    log = read_orientation_log(path)
    assert log.seconds.tolist() == pytest.approx([0, 0.004])
    outside = log.rotations_at(torch.tensor([-1.0, 9.0], dtype=torch.float64))
    assert torch.equal(outside, log.rotations)


def test_the_longest_stretch_without_a_pause_counts(tmp_path):
    path = tmp_path / "log.txt"
    lines = log_text([0.002 * index for index in range(31)]).splitlines()
    # The first ten samples are 1,000 s older. The others come in bursts, which are no stretches.
    for index in range(12, len(lines)):
        system, sensor, matrix = lines[index].split(", ", 2)
        burst, since = divmod(int(sensor), 25_000_000)
        moment = 10**12 + 25_000_000 * burst + since // 1000
        lines[index] = f"{system}, {moment}, {matrix}"
    path.write_text("\n".join(lines))
    log = read_orientation_log(path)
    assert log.duration == pytest.approx(20 * 0.005)
    assert float(log.rotations[0, 0, 2]) == pytest.approx(math.sin(0.02))


@pytest.mark.parametrize(
    "text",
    [
        "", "hello\nworld", "1, 2, [1, 2, 3]", "1, 2, [1,0,0,0,1,0,0,0,1]",
        "1, 2, [1,0,0,0,1,0,0,0,1]\n9, 2, [1,0,0,0,1,0,0,0,1]",  # at one time
        "1, 2, [r11, ..., r33]\n1, 3, [1,0,0,0,nan,0,0,0,1]\n1, 4, [1,0,0,0,1,0,0,0,1]",
    ],
)  # fmt: skip
def test_files_that_are_no_logs_are_refused(tmp_path, text):
    path = tmp_path / "log.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="not an orientation log"):
        read_orientation_log(path)
