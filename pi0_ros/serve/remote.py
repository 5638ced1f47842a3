"""A policy elsewhere, with the methods of `pi0_ros.policy.policy.Policy`.

In a process of its own the policy's Python takes no time from its owner's callbacks: rclpy holds
the GIL while it takes an image, and a model holds it between its operators. On another machine it
has that machine's accelerator. A policy that hangs can be left besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from pi0_ros.policy.card import CardError, PolicyCard
from pi0_ros.policy.types import ActionChunk, ActionPrefix, Observation
from pi0_ros.policy.units import JointUnits
from pi0_ros.serve.connection import Connection
from pi0_ros.serve.images import encode
from pi0_ros.serve.links import Link, NoLink
from pi0_ros.serve.mapping import OWN, KeyMapping
from pi0_ros.serve.wire import WireError, numbers, pack, unpack

FRESH = 0.5
"""Seconds that connecting again may take for the observation still to be worth an inference."""

_SPOKEN_VERSION = 1


class RemoteError(RuntimeError):
    """Something raised where the policy is.

    Its class is named after the one over there, and is a ValueError if that was one, so that it
    reads the same here.
    """


class PolicyEnded(RuntimeError):
    """The policy cannot be reached, or has gone, and so there is no chunk."""


class _Dismissed(PolicyEnded):
    """The server said goodbye while a question was on its way; another server may answer it."""


class WrongPolicy(ValueError):
    """The policy that answers is none for this robot; lists everything."""


@dataclass(frozen=True)
class RobotSide:
    """What the robot knows and the policy does not; on the way all is in the checkpoint's units.

    Attributes:
        units: of the joints.
        cameras: of the robot.
        dt: seconds between two actions.
        mapping: the keys of a server that is not of this package; None: it has to be of it.
        horizon: steps in a chunk of such a server.
        delta_mask: joints whose actions such a server gives relative to the state.
        images: `fitted`, shrunk to the model's size before they are sent; `jpeg`, and compressed;
            `raw`.
    """

    units: JointUnits
    dt: float
    cameras: tuple[str, ...] = ()
    mapping: KeyMapping | None = None
    horizon: int = 0
    delta_mask: Sequence[bool] | None = None
    images: str = "fitted"


class RemotePolicy:
    """Asks a policy over a link.

    One thread uses it, but for `kill`, which any thread may call. A connection whose answer was not
    what was asked for is ended, so that no answer can be taken for that to a later question.

    Attributes:
        horizon, device, rtc_max_delay: of the policy; see `pi0_ros.policy.policy.Policy`.
        cameras: whose images are sent.
        loading: whether it is connecting, which may take minutes where that starts a process, and
            is no hung inference.
        starts: how often it connected.
    """

    def __init__(
        self,
        link: Link,
        robot: RobotSide,
        check: Callable[[PolicyCard | None], Sequence[str]] = lambda card: (),
    ) -> None:
        """Connect; returns when the policy is warm.

        Args:
            check: lists why a policy does not fit the robot, at every connection; None is a server
                that does not describe its policy.

        Raises:
            RemoteError: loading the policy failed.
            PolicyEnded: nobody answers, or what answers is no policy.
            WrongPolicy: it does not fit.
        """
        self._link, self._robot, self._check = link, robot, check
        self.cameras = robot.cameras
        self._connection: Connection | None = None
        self._fate = f"{link} was not asked yet"
        self._pause, self._next_at = link.pace.first, 0.0
        self._asked, self._reset, self._sequence = 0, False, 0
        self.loading = False
        self.starts = 0
        self._connect()

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """As `Policy.infer`; connects again where the connection has ended.

        Raises:
            RemoteError: the policy raised.
            PolicyEnded: there was no answer, a malformed one, or one to another question; or
                connecting took so long that the observation is an old one.
        """
        begun = time.monotonic()
        try:
            return self._ask(observation, prefix)
        except _Dismissed:
            if time.monotonic() - begun > FRESH:
                raise
        return self._ask(observation, prefix)

    def reset(self) -> None:
        """Begin a new episode, as a new connection does by itself."""
        self._reset, self._sequence = True, 0

    def kill(self) -> None:
        """Want no answer any more, from any thread; an `infer` that waits for it raises."""
        self._link.kill()

    def close(self) -> None:
        """End the connection, and the process where there is one, which frees its memory."""
        # First: an `infer` that waits in another thread may connect again once it is dropped.
        self._next_at = time.monotonic() + self._pause
        self._drop(f"{self._link} was closed")

    # The connection -----------------------------------------------------------------------------

    def _ensure_connected(self) -> None:
        """Raises PolicyEnded where there is no connection on which to ask now."""
        if self._connection is not None:
            if self._connection.is_open():
                return
            self._drop(self._link.fate())
        wait = self._next_at - time.monotonic()
        if wait > 0:
            raise PolicyEnded(f"{self._fate}; trying again in {wait:.1f} s")
        fate, begun = self._fate, time.monotonic()
        self._connect()
        taken = time.monotonic() - begun
        if taken > FRESH:
            raise PolicyEnded(
                f"{fate}; it was started again in {taken:.1f} s, and the observation is too old now"
            )

    def _connect(self) -> None:
        """Raises what `__init__` raises. Pauses between attempts grow until there is a chunk."""
        self.loading = True
        self.starts += 1
        self._next_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, self._link.pace.longest)
        try:
            self._connection = self._link.open()
            self._greet(self._connection)
        except NoLink as error:
            self._drop(str(error))
            raise PolicyEnded(str(error)) from error
        except (ConnectionClosed, OSError) as error:  # TimeoutError is one
            self._drop(f"{self._link.fate()} before it said what it serves")
            raise PolicyEnded(self._fate) from error
        except BaseException as error:
            self._drop(f"{self._link} is of no use: {error}")
            raise
        finally:
            self.loading = False

    def _greet(self, connection: Connection) -> None:
        """Read what the server says of itself, and see whether it fits."""
        frame = connection.recv(timeout=self._link.patience)
        try:
            about = unpack(frame).get("pi0_ros")
            self._own = about is not None
            if self._own:
                self._read_about(about)
            else:
                self._read_nothing()
        except (WireError, CardError) as error:
            raise WrongPolicy(f"what the server says of itself is malformed: {error}") from error
        problems = self._check(self.card)
        if problems:
            lines = "".join(f"\n  - {problem}" for problem in problems)
            raise WrongPolicy(f"the server's policy does not fit:{lines}")
        self._reset, self._sequence = False, 0

    def _read_about(self, about: Any) -> None:
        if not isinstance(about, dict):
            raise WireError("pi0_ros: expected a map")
        if "error" in about:
            raise _remote_error(about["error"])
        version = about.get("version")
        if type(version) is not int or version != _SPOKEN_VERSION:
            raise WireError(
                f"it speaks version {version!r:.20} of pi0_ros, this node"
                f" {_SPOKEN_VERSION}: install the same release on both machines"
            )
        horizon, device = about.get("horizon"), about.get("device")
        if type(horizon) is not int or not 0 < horizon <= 1024 or not isinstance(device, str):
            raise WireError("horizon and device: expected a number and a word")
        self.horizon, self.device = horizon, device[:100]
        most = about.get("rtc_max_delay", 0)
        self.rtc_max_delay = most if type(most) is int and 0 <= most <= horizon else 0
        card = about.get("card")
        self.card = None if card is None else PolicyCard.from_document(card, "the server")
        if self.card is not None and self.card.horizon != horizon:
            raise WireError(f"its chunks have {horizon} steps, its card says {self.card.horizon}")

    def _read_nothing(self) -> None:
        """A server of openpi, whose metadata has nothing to compare."""
        if self._robot.mapping is None:
            raise WireError(
                "it does not describe its policy, so it is no `pi0 serve`; for an openpi server"
                " give policy_mapping"
            )
        self.horizon, self.device, self.card = self._robot.horizon, "unknown", None
        self.rtc_max_delay = 0

    def _drop(self, fate: str) -> None:
        """End the connection, which the next question opens again."""
        self._connection, self._fate = None, fate
        self._link.close()

    # Questions and answers ----------------------------------------------------------------------

    def _ask(self, observation: Observation, prefix: ActionPrefix | None) -> ActionChunk:
        """Ask once. Raises what `infer` raises, and _Dismissed."""
        self._ensure_connected()
        connection, question = self._connection, pack(self._question(observation, prefix))
        begun = time.monotonic()
        try:
            connection.send(question)
            frame = connection.recv()
        except (ConnectionClosed, OSError) as error:
            goodbye = connection.closing
            self._drop(self._link.fate())
            dismissed = goodbye is not None and goodbye.code == CloseCode.GOING_AWAY
            raise (_Dismissed if dismissed else PolicyEnded)(self._fate) from error
        try:
            return self._chunk(frame, observation, time.monotonic() - begun)
        except WireError as error:
            self._drop(f"{self._link} gave a malformed answer: {error}")
            raise PolicyEnded(self._fate) from error

    def _question(self, observation: Observation, prefix: ActionPrefix | None) -> Mapping[str, Any]:
        units = self._robot.units
        state = units.from_radians(np.asarray(observation.state, np.float32))
        shared = self._link.share(observation.images)
        images = {} if shared else {k: self._image(v) for k, v in observation.images.items()}
        mapping = OWN if self._own else self._robot.mapping
        question = mapping.request(images, state, observation.instruction)
        if self._own:
            self._asked += 1
            question["pi0_ros"] = {"id": self._asked, "reset": self._reset}
            question |= shared or {}
            if prefix is not None:
                positions = units.from_radians(np.asarray(prefix.positions, np.float32))
                question["pi0_ros"]["prefix"] = {
                    "positions": positions,
                    "weights": np.asarray(prefix.weights, np.float32),
                    "delay": int(prefix.delay),
                    "max_weight": float(prefix.max_weight),
                }
            self._reset = False
        return question

    def _image(self, image: np.ndarray) -> np.ndarray | bytes:
        """As it is sent."""
        if self._robot.images == "raw":
            return image
        from pi0_ros.policy.preprocess import shrink

        card = self.card
        size, antialias = (card.image_size, card.antialias) if card is not None else (224, True)
        fitted = shrink(image, size, antialias)
        return encode(fitted) if self._robot.images == "jpeg" else fitted

    def _chunk(self, frame: bytes | str, observation: Observation, seconds: float) -> ActionChunk:
        """The chunk in an answer.

        Raises:
            WireError: it is no answer to the last question.
            RemoteError: the policy raised.
        """
        if isinstance(frame, str):  # openpi's form of an error, with which a connection ends
            self._drop(f"{self._link} reported an error")
            raise RemoteError(f"the policy server reports: {frame.strip()[-500:]}")
        answer = unpack(frame)
        own = answer.get("pi0_ros")
        if self._own:
            number = own.get("id") if isinstance(own, dict) else None
            if type(number) is not int or number != self._asked:
                raise WireError(f"it answers another question than the last one ({self._asked})")
            if "error" in own:
                raise _remote_error(own["error"])
        actions = numbers(answer.get("actions"), "actions", ndim=2).astype(np.float32)
        wanted = (self.horizon, len(self._robot.units))
        if actions.shape != wanted:
            raise WireError(f"actions of the shape {list(actions.shape)}, expected {list(wanted)}")
        if not self._own and self._robot.delta_mask is not None:
            state = self._robot.units.from_radians(np.asarray(observation.state, np.float32))
            actions = actions + np.where(self._robot.delta_mask, state, 0.0)
        self._pause = self._link.pace.first
        sequence, self._sequence = self._sequence, self._sequence + 1
        facts = own if self._own else {}
        stages = _stages(facts.get("stages"), answer.get("server_timing"))
        stages["link"] = max(0.0, seconds - sum(stages.values()))
        return ActionChunk(
            positions=self._robot.units.to_radians(actions).astype(np.float32),
            dt=self._robot.dt,
            stamp=observation.stamp,
            sequence=_whole(facts.get("sequence"), sequence),
            seed=_whole(facts.get("seed"), 0),
            stage_times=stages,
        )


def _stages(stages: Any, timing: Any) -> dict[str, float]:
    """Seconds per stage, as the server tells them."""
    if isinstance(stages, dict) and len(stages) <= 16:
        good = {k: v for k, v in stages.items() if isinstance(k, str) and type(v) is float}
        if len(good) == len(stages) and all(0 <= v < 1e6 for v in good.values()):
            return good
    spent = timing.get("infer_ms") if isinstance(timing, dict) else None
    return {"model": spent / 1e3} if type(spent) is float and 0 <= spent < 1e9 else {}


def _whole(value: Any, otherwise: int) -> int:
    return value if type(value) is int and 0 <= value < 2**63 else otherwise


def _remote_error(described: Any) -> RemoteError:
    """Raises WireError where nothing is described."""
    if not isinstance(described, dict) or not isinstance(described.get("text"), str):
        raise WireError("an error without a text")
    name = described.get("type")
    name = name if isinstance(name, str) and name.isidentifier() and len(name) < 80 else "Error"
    is_value_error = described.get("is_value_error") is True
    bases = (RemoteError, ValueError) if is_value_error else (RemoteError,)
    return type(name, bases, {})(described["text"][:2000])
