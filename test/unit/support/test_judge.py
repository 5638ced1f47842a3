"""The judge of the fault suite sees what is unsafe, and nothing in what is safe."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.faults.arm import LAG, Arm, Path
from support.faults.judge import Judge, Limits

JOINTS = ("pan", "lift")
HERE = np.array([0.7, -0.8])
NOW = 1_790_000_000_000_000_000
MS = 1_000_000
LATER = NOW + 1_600 * MS
"""When what was seen in the first half second is judged."""
LIMITS = Limits(np.full(2, -1.0), np.full(2, 1.0), 1.0, 5.0)


def time_of(nanoseconds: int) -> SimpleNamespace:
    sec, nanosec = divmod(nanoseconds, 10**9)
    return SimpleNamespace(sec=sec, nanosec=nanosec)


def trajectory(times_ms, positions, velocities, stamp: int = NOW, joints=JOINTS) -> SimpleNamespace:
    points = [
        SimpleNamespace(
            time_from_start=time_of(t * MS),
            positions=list(p),
            velocities=list(v),
            accelerations=[],
            effort=[],
        )
        for t, p, v in zip(times_ms, positions, velocities, strict=True)
    ]
    header = SimpleNamespace(stamp=time_of(stamp))
    return SimpleNamespace(header=header, joint_names=list(joints), points=points)


def swing(way: float = 0.1, seconds: float = 1.0, begin=HERE, stamp: int = NOW) -> SimpleNamespace:
    """A smooth motion of the first joint there and to rest; fastest 1.5 times way / seconds."""
    share = np.linspace(0, 1, 26)[:, None]
    profile = np.array([way, 0.0])
    p = begin + (3 * share**2 - 2 * share**3) * profile
    v = 6 * (share - share**2) * profile / seconds
    times = np.round(share[:, 0] * seconds * 1000).astype(int) + 10
    return trajectory(times.tolist(), p, v, stamp)


@pytest.fixture
def judge() -> Judge:
    judge = Judge(JOINTS, LIMITS)
    for k in range(-50, 50):
        judge.arm(NOW + k * 10 * MS, HERE)
    return judge


def seen(judge: Judge, message: SimpleNamespace, received: int = NOW) -> str:
    judge.trajectory(message, received)
    return " ".join(judge.violations)


def test_a_safe_trajectory_passes(judge):
    assert seen(judge, swing()) == ""
    assert judge.judged == 1 and judge.steps == 99


def test_limits_between_the_points(judge):
    """Points within the limits, and a cubic between them that is not."""
    out = np.array([0.98, -0.8])
    begin = trajectory([10, 400], [out, out], [[0.6, 0.0], [0.0, 0.0]])
    judge.forget()
    assert "pan above the upper limit by 0.0" in seen(judge, begin)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (swing(0.9), "upper limit"),
        (swing(-1.9, 4.0), "lower limit"),
        (swing(0.2, 0.25), "too fast"),
        (swing(0.1, 0.3), "too hard"),
        (swing(begin=HERE + 0.1), "from where pan is"),
        (swing(begin=np.zeros(2), way=0.0), "zeros out of nowhere"),
        (trajectory([10, 20], [HERE, HERE * np.nan], np.zeros((2, 2))), "not finite"),
        (trajectory([10, 20], [HERE, HERE], [[0, 0], [np.inf, 0]]), "not finite"),
        (trajectory([20, 20], [HERE, HERE], np.zeros((2, 2))), "do not increase"),
        (trajectory([20, 10], [HERE, HERE], np.zeros((2, 2))), "do not increase"),
        (trajectory([10], [HERE], [[0.1, 0.0]]), "no rest"),
        (trajectory([], [], []), "without points"),
        (trajectory([10], [HERE[:1]], [[0.0]]), "1 positions of 2 joints"),
        (trajectory([10], [HERE], [[]]), "0 velocities of 2 joints"),
        (trajectory([10], [HERE[::-1]], [[0, 0]], joints=JOINTS[::-1]), "joints"),
        (swing(stamp=NOW - 5_000 * MS), "in the past"),
    ],
)
def test_what_it_must_see(judge, message, says):
    judge.trajectory(message, NOW)
    judge.arm(NOW + 500 * MS, HERE)
    judge.arm(LATER, HERE)
    assert says in " ".join(judge.violations)


def test_a_step_of_the_arm(judge):
    judge.arm(NOW + 500 * MS, HERE + 0.01)
    judge.arm(NOW + 510 * MS, HERE + 0.1)
    judge.arm(LATER, HERE)
    assert len(judge.violations) == 1 and "made to step by 0.090 rad" in judge.violations[0]


def test_a_trajectory_that_comes_late_explains_a_step_towards_it(judge):
    """The judge may receive it after what the arm made of it."""
    judge.arm(NOW + 500 * MS, HERE)
    for k, share in enumerate((0.5, 1.0)):  # the controller needs until the next point
        judge.arm(NOW + (510 + 10 * k) * MS, HERE + np.array([0.1 * share, 0.0]))
    judge.trajectory(swing(0.19), NOW + 600 * MS)  # 0.1 rad on its way then
    judge.arm(LATER, HERE)
    assert not judge.violations
    judge.arm(LATER + 10 * MS, HERE - 0.1)  # away from it
    judge.arm(LATER + 2_000 * MS, HERE)
    assert "made to step by 0.100 rad" in judge.violations[0]


def test_a_trajectory_may_begin_on_the_one_before_that_the_arm_got_late(judge):
    judge.trajectory(swing(0.19), NOW)
    judge.arm(NOW + 500 * MS, HERE)  # it has not got it
    there = Path(swing(0.19), NOW).sample([NOW + 490 * MS])[0][0]
    judge.trajectory(swing(begin=there, stamp=NOW + 480 * MS), NOW + 500 * MS)
    judge.trajectory(swing(begin=there + 0.1, stamp=NOW + 480 * MS), NOW + 500 * MS)
    judge.arm(LATER, HERE)
    (said,) = judge.violations
    assert "from where pan is" in said


def test_another_time_is_no_step(judge):
    judge.arm(NOW - 10_000 * MS, HERE + 0.5)
    judge.arm(NOW + 10_000 * MS, HERE)
    assert not judge.violations


def test_while_it_holds_one_braking_is_all_that_may_come(judge):
    judge.hold("of a test")
    stop = trajectory([10, 210], [HERE, HERE + np.array([0.05, 0])], [[0.5, 0.0], [0.0, 0.0]])
    assert seen(judge, stop) == ""
    assert "a second trajectory although of a test" in seen(judge, stop)


def test_a_stop_may_go_on_as_before_until_its_splice_point(judge):
    def stop(splice: int) -> SimpleNamespace:
        """Faster until the splice point, then braking."""
        there = HERE + np.array([0.175 * splice / 1000, 0])
        return trajectory(
            [0, splice, splice + 300],
            [HERE, there, there + np.array([0.0375, 0])],
            [[0.1, 0.0], [0.25, 0.0], [0.0, 0.0]],
        )

    judge.hold("of a test")
    assert seen(judge, stop(40)) == ""
    judge.hold("of a test")
    assert "no braking although of a test" in seen(judge, stop(90))


def test_while_it_holds_nothing_may_speed_up(judge):
    judge.hold("of a test")
    assert "no braking although of a test" in seen(judge, swing())
    judge.violations.clear()
    judge.hold("")
    assert seen(judge, swing()) == ""


def test_a_hold_that_begins_anew_takes_back_what_was_said(judge):
    judge.hold("of a test")
    assert "no braking" in seen(judge, swing())
    judge.hold("of a test")
    assert not judge.violations
    seen(judge, swing())
    judge.hold("")
    judge.hold("of another test")
    assert len(judge.violations) == 1, "that one had ended"


def test_what_was_published_before_the_hold_only_came_late(judge):
    judge.hold("of a test", since=1000)
    judge.trajectory(swing(), NOW, published=999)
    assert not judge.violations
    judge.trajectory(swing(), NOW, published=1001)
    assert "no braking although of a test" in " ".join(judge.violations)


def test_the_arm_follows_late_and_is_commanded_no_step():
    arm = Arm(JOINTS, HERE)
    judge = Judge(JOINTS, LIMITS)
    stamps = range(NOW, NOW + 2_500 * MS, 10 * MS)
    for stamp in stamps:
        if stamp == NOW + 100 * MS:
            arm.execute(swing(stamp=0), stamp)
        if stamp == NOW + 600 * MS:  # from another place: it is to move there, not to jump
            arm.execute(swing(-0.1, begin=HERE + np.array([0.2, 0]), stamp=stamp + 400 * MS), stamp)
        position, _ = arm.state(stamp)
        judge.arm(stamp, arm.command)
        if stamp == NOW + 600 * MS:
            assert arm.command[0] - position[0] == pytest.approx(0.15 * LAG / 1e9, rel=0.2)
    np.testing.assert_allclose(arm.command, HERE + np.array([0.1, 0]), atol=1e-9)
    np.testing.assert_allclose(arm.state(stamps[-1])[0], arm.command, atol=1e-3)
    assert not judge.violations


def test_the_arm_refuses_what_its_controller_would():
    arm = Arm(JOINTS, HERE)
    past = swing(stamp=NOW - 5_000 * MS)
    short = trajectory([10], [HERE[:1]], [[0.0]])
    for message in (past, short, trajectory([], [], []), swing(np.nan)):
        arm.execute(message, NOW)
        np.testing.assert_array_equal(arm.state(NOW + 500 * MS)[0], HERE)


def test_the_cubic_is_the_controllers():
    path = Path(swing(), NOW)
    p, v, a = path.sample([NOW + 10 * MS + 500 * MS])
    np.testing.assert_allclose(p[0], HERE + np.array([0.05, 0]), atol=1e-6)
    np.testing.assert_allclose(v[0], [0.15, 0], atol=1e-4)
    np.testing.assert_allclose(a[0], 0, atol=1e-3)
