"""The faults: what is injected, what /diagnostics must report, what may be published meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi0_ros.motion.emergency_stop import SILENCE
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.faults.testbed import Testbed

Action = Callable[["Testbed"], Any]


@dataclass(frozen=True)
class Diagnosis:
    """What has to be in /diagnostics: a status that is not OK with all of these words.

    Attributes:
        status: its name, without the node's.
        words: in its message or values.
    """

    status: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: in a few words, for the table.
        robot: what robot.py is told; the end tells it the opposite.
        policy: what the fake policy does, a word of fake_policy.FAULTS.
        begin, end: what else is done, and undone. What `end` returns goes into the table.
        diagnosis: what /diagnostics has to name; None: nothing is wrong.
        chunks: what must be meanwhile: `stop`; `dry`, chunks go on and no trajectory but a stop
            comes; `go on`; or `any`, which leaves it open.
        reset: whether it takes ~/reset and ~/enable to move again, as it does where it latches.
        instant: it is over as soon as it began: there is no meanwhile.
    """

    name: str
    robot: Mapping[str, Any] = field(default_factory=dict)
    policy: str = ""
    begin: Action | None = None
    end: Action | None = None
    diagnosis: Diagnosis | None = None
    chunks: str = "stop"
    reset: bool = False
    instant: bool = False

    def begin_on(self, testbed: Testbed) -> None:
        """Make it happen."""
        if self.robot:
            testbed.tell_robot(**self.robot)
        if self.policy:
            testbed.tell_policy(self.policy)
        if self.begin is not None:
            self.begin(testbed)

    def end_on(self, testbed: Testbed) -> Any:
        """Undo it."""
        if self.robot:
            testbed.tell_robot(**dict.fromkeys(self.robot, ""))
        if self.policy:
            testbed.tell_policy("")
        return self.end(testbed) if self.end is not None else None


def _camera(name: str, fault: str, *words: str, chunks: str = "stop") -> Fault:
    """A fault of one of the cameras; the other goes on."""
    diagnosis = Diagnosis("camera front", words) if words else None
    return Fault(name, robot={"front": fault}, diagnosis=diagnosis, chunks=chunks)


def _joints(name: str, fault: str, *words: str) -> Fault:
    return Fault(name, robot={"joint_states": fault}, diagnosis=Diagnosis("joint states", words))


CAMERAS = (
    _camera("camera stops", "silent", "stale"),
    _camera("camera freezes, stamps go on", "frozen", "frozen"),
    _camera("camera changes size", "larger", chunks="go on"),
    _camera("camera changes encoding to mono8", "grey", chunks="go on"),
    _camera("camera changes to an unknown encoding", "unknown encoding", "malformed"),
    _camera("camera sends half of the data", "truncated", "malformed"),
    _camera("camera sends no data", "empty", "malformed"),
    _camera("camera gives a wrong step", "wrong step", "malformed"),
    _camera("camera stamps 30 s ahead", "future", "future"),
    _camera("camera stamps 30 s late", "past", "stale"),
    _camera("camera without stamps", "unstamped", "stamp"),
    _camera("camera sends bytes that are no image", "garbage", "malformed"),
    _camera("camera sends 4K images", "4K", chunks="any"),
)

JOINT_STATES = (
    _joints("joint states stop", "silent", "stale"),
    _joints("joint states lack a joint", "missing", "stale", "gripper"),
    _joints("joint states with NaN", "NaN", "finite"),
    _joints("joint states of wrong length", "lengths", "4 positions"),
    _joints("joint states with a doubled name", "doubled", "more than once"),
    _joints("joint states of another robot", "strangers", "other_"),
    _joints("joint states stamped 30 s ahead", "future", "future"),
    _joints("joint states without stamps", "unstamped", "stamp"),
    _joints("joint states that are no message", "garbage", "malformed"),
    Fault(
        "arm and gripper in joint states of their own", {"joint_states": "parts"}, chunks="go on"
    ),
    Fault(
        "another node publishes zeros for the same joints",
        robot={"rival": True},
        diagnosis=Diagnosis("joint states", ("in turn", "/joint_state_publisher on")),
        reset=True,
    ),
)

INSTRUCTION = (
    Fault("instruction empty", robot={"instruction": "empty"}, chunks="any"),
    Fault("instruction of 10 kB", robot={"instruction": "10 kB"}, chunks="any"),
    Fault("instruction binary", robot={"instruction": "binary"}, chunks="any"),
    Fault("instruction changes 50 times a second", {"instruction": "changing"}, chunks="go on"),
)

POLICY = (
    Fault("policy raises", policy="raise", diagnosis=Diagnosis("inference", ("asked to raise",))),
    Fault("policy hangs", policy="hang", diagnosis=Diagnosis("inference", ("given up",))),
    Fault(
        "policy returns a wrong shape", policy="shape", diagnosis=Diagnosis("inference", ("shape",))
    ),
    Fault(
        "policy returns NaN now and then",
        policy="NaN at times",
        diagnosis=Diagnosis("limits", ("nan",)),
        chunks="go on",
    ),
    Fault(
        "policy keeps returning NaN",
        policy="NaN",
        diagnosis=Diagnosis("limits", ("nan",)),
        reset=True,
    ),
    Fault(
        "policy keeps returning Inf",
        policy="infinite",
        diagnosis=Diagnosis("limits", ("inf",)),
        reset=True,
    ),
    Fault(
        "policy jumps by 1 rad",
        policy="jump",
        diagnosis=Diagnosis("limits", ("max_jump",)),
        reset=True,
    ),
    Fault(
        "policy returns zeros",
        policy="zeros",
        diagnosis=Diagnosis("limits", ("max_jump",)),
        reset=True,
    ),
    Fault(
        "policy is too fast",
        policy="fast",
        diagnosis=Diagnosis("limits", ("clamp_velocity",)),
        reset=True,
    ),
    Fault("policy trembles", policy="noise", chunks="go on"),
    Fault("policy takes 0.3 s", policy="slow", chunks="go on"),
)

TRAFFIC = (
    Fault(
        "5 publishers more at 200 Hz on each topic",
        begin=lambda testbed: testbed.start_flood(),
        end=lambda testbed: testbed.end_flood(),
        chunks="any",
    ),
    Fault(
        "all publishers restart",
        begin=lambda testbed: testbed.tell_robot(restart=True),
        instant=True,
    ),
)


def _silence(testbed: Testbed) -> None:
    """Sources that the node cannot tell apart are silent for as long as it wants."""
    testbed.observer.emergency_stop(False)
    testbed.observer.take_buttons_away()
    time.sleep(SILENCE + 0.2)


STOPPING = (
    Fault(
        "emergency stop",
        begin=lambda testbed: testbed.observer.emergency_stop(True),
        end=lambda testbed: testbed.observer.emergency_stop(False),
        diagnosis=Diagnosis("limits", ("emergency stop",)),
        chunks="dry",
        reset=True,
    ),
    Fault(
        "emergency stop, best effort",
        begin=lambda testbed: testbed.observer.press_another(True, best_effort=True),
        end=lambda testbed: _silence(testbed),
        diagnosis=Diagnosis("limits", ("emergency stop",)),
        chunks="dry",
        reset=True,
    ),
    Fault(
        "emergency stop, while another source says false",
        begin=lambda testbed: (
            testbed.observer.emergency_stop(True),
            testbed.observer.press_another(False),
        ),
        end=lambda testbed: _silence(testbed),
        diagnosis=Diagnosis("limits", ("emergency stop",)),
        chunks="dry",
        reset=True,
    ),
    Fault(
        "deadman stamped 30 s ahead",
        {"deadman": "future"},
        diagnosis=Diagnosis("limits", ("deadman", "future")),
        chunks="dry",
        reset=True,
    ),
    Fault(
        "deadman let go",
        {"deadman": "silent"},
        diagnosis=Diagnosis("limits", ("deadman",)),
        chunks="dry",
        reset=True,
    ),
)

ON_WALL_TIME = (*CAMERAS, *JOINT_STATES, *INSTRUCTION, *POLICY, *TRAFFIC, *STOPPING)
"""Those that one node goes through, one after the other."""

PROCESS = (
    Fault(
        "policy hangs in its own process, lock held",
        policy="hang hard",
        diagnosis=Diagnosis("inference", ("given up",)),
    ),
    Fault(
        "policy's process is killed",
        policy="killed",
        diagnosis=Diagnosis("inference", ("signal 9",)),
    ),
    Fault(
        "the robot's process is killed and started again",
        begin=lambda testbed: testbed.kill_robot(),
        end=lambda testbed: testbed.start_robot(),
        diagnosis=Diagnosis("joint states", ("stale",)),
    ),
)
"""Those of a node with `policy_url: process`, and without a deadman."""

SERVER = (
    Fault(
        "policy server is killed and started again",
        begin=lambda testbed: testbed.server.kill(),
        end=lambda testbed: testbed.start_server() and "",
        diagnosis=Diagnosis("inference", ("policy server", "cannot be reached")),
    ),
    Fault(
        "policy server restarts",
        begin=lambda testbed: testbed.restart_server(),
        instant=True,
    ),
    Fault(
        "policy server hangs",
        policy="hang",
        diagnosis=Diagnosis("inference", ("given up",)),
    ),
    Fault("policy server takes 0.3 s", policy="slow", chunks="go on"),
    Fault(
        "policy server sends garbage",
        policy="garbage",
        diagnosis=Diagnosis("inference", ("malformed answer", "not msgpack")),
    ),
    Fault(
        "policy server answers the question before",
        policy="late",
        diagnosis=Diagnosis("inference", ("malformed answer", "another question")),
    ),
    Fault(
        "policy server's policy raises",
        policy="raise",
        diagnosis=Diagnosis("inference", ("RuntimeError",)),
    ),
    Fault(
        "policy server comes back with another robot's policy",
        begin=lambda testbed: testbed.restart_server("other"),
        end=lambda testbed: testbed.restart_server(),
        diagnosis=Diagnosis("inference", ("does not fit", "7")),
    ),
)
"""Those of a node whose `policy_url` is a server's."""

LONG_AGO = -3e8
"""Seconds from now to the time of an old bag."""


def _clock(off: float) -> Action:
    """/clock is LONG_AGO and so many seconds; done when the observer received it."""

    def jump(testbed: Testbed) -> None:
        testbed.tell_robot(clock=LONG_AGO + off)

        def heard() -> bool:
            return abs(testbed.observer.now() / 1e9 - time.time() - LONG_AGO - off) < 5

        wait_until(heard, "the observer to receive /clock")

    return jump


CLOCK = (
    Fault("/clock jumps ahead by 100 s", begin=_clock(100.0), instant=True),
    Fault("/clock jumps back by 100 s, as a bag that loops", begin=_clock(0.0), instant=True),
    Fault(
        "/clock stops",
        begin=lambda testbed: testbed.tell_robot(clock_stops=True),
        end=_clock(0.0),
        diagnosis=Diagnosis("observations", ("clock",)),
    ),
)
"""Those of a node with `use_sim_time` whose time is LONG_AGO."""
