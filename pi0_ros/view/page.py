"""The page in the browser: a robot, its ghost, the tool's path, images and a time slider.

By viser, which sends triangles and lines to a page that it brings along: nothing is fetched from
elsewhere. It listens on the loopback only, and the tunnel that it could open to the outside is
shut: camera images stay on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
import viser

from pi0_ros.collision.kinematics import Arm
from pi0_ros.view.robot import Shape
from pi0_ros.view.timeline import Moment
from pi0_ros.viz.scene import Line

HOST = "127.0.0.1"
PAUSE = 0.5
"""Seconds for which the ghost rests at the end of a chunk."""

GHOST_COLOUR = (90, 150, 255)
GHOST_OPACITY = 0.35
# Of the lines, as shares of the robot's size.
_THICKNESS = {
    "chunk": 0.016,
    "executed": 0.011,
    "passed": 0.008,
    "replaced": 0.006,
    "rejected": 0.011,
}


class LocalServer(viser.ViserServer):
    """A viser server that a page cannot ask for a public address."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


class Page:
    """What is on the page. Methods that show something send only what changed."""

    def __init__(
        self,
        arm: Arm,
        shapes: Sequence[Shape],
        port: int,
        seconds: tuple[float, float],
        live: bool,
        at: float | None = None,
        step: int = -1,
    ) -> None:
        """Serve the page.

        Args:
            shapes: of `arm`.
            port: where to listen; the next free one, if it is taken.
            seconds: the ends of the time slider.
            live: the slider counts back from now.
            at: seconds at which to stand still at first; None: it plays from the beginning.
            step: of the chunks, at which the ghost stands at first; -1: it plays them.
        """
        self._arm = arm
        self.server = LocalServer(host=HOST, port=port, verbose=False)
        self.server.gui.configure_theme(
            dark_mode=True, show_logo=False, show_share_button=False, control_width="large"
        )
        middle, self._size = _extent(arm, shapes)
        self.server.initial_camera.position = tuple(
            middle + self._size * np.array([1.2, -1.1, 0.9])
        )
        self.server.initial_camera.look_at = tuple(middle)
        width = max(2.0, np.ceil(4 * self._size))
        self.server.scene.add_grid("/grid", width, width, cell_size=0.1, section_size=0.5)
        self._robot = self._add_robot("/robot", shapes, None)
        self._ghost = self._add_robot("/ghost", shapes, GHOST_COLOUR)
        self._lines: dict[str, viser.LineSegmentsHandle] = {}
        self._cameras: dict[str, viser.GuiImageHandle] = {}
        self._shown: dict[str, bytes] = {}

        gui, (first, last) = self.server.gui, seconds
        label = "seconds ago" if live else "time (s)"
        begin = last if live else first if at is None else min(max(at, first), last)
        self.time = gui.add_slider(label, first, last, 0.01, begin)
        self.play = gui.add_checkbox("play", at is None, visible=not live)
        self._ghost_step = gui.add_slider(
            "ghost at step",
            -1,
            max(step, 1),
            1,
            step,
            hint="-1: the ghost plays the newest chunk in a loop",
        )
        self._text = gui.add_html("")

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server.get_port()}"

    @property
    def watched(self) -> bool:
        """Whether a browser has it open."""
        return bool(self.server.get_clients())

    def show(self, moment: Moment, now: int) -> None:
        """How things stood at `now`, nanoseconds."""
        chunk = moment.chunk
        with self.server.atomic():
            if moment.joints or chunk is not None:
                first = {} if chunk is None else _row(chunk.joint_names, chunk.positions[0])
                self._pose(self._robot, moment.joints or first)
            self._show_ghost(moment)
            self._show_lines(moment.scene.lines(now))
        for camera, jpeg in moment.images.items():
            self._show_image(camera, jpeg)
        text = as_html(moment.scene.text(now) or "no chunk yet")
        if text != self._text.content:
            self._text.content = text

    def stop(self) -> None:
        """Serve no more."""
        self.server.stop()

    def _add_robot(
        self, name: str, shapes: Sequence[Shape], colour: tuple[int, int, int] | None
    ) -> dict[str, viser.FrameHandle]:
        """The frames of the links, with their shapes; colour: of all of them, transparent."""
        frames = {}
        for number, shape in enumerate(shapes):
            link = f"{name}/{shape.link}"
            if shape.link not in frames:
                frames[shape.link] = self.server.scene.add_frame(link, show_axes=False)
            self.server.scene.add_mesh_simple(
                f"{link}/{number}",
                shape.vertices,
                shape.faces,
                color=colour or shape.colour,
                opacity=GHOST_OPACITY if colour else None,
                flat_shading=True,
                cast_shadow=colour is None,
            )
        return frames

    def _pose(self, robot: Mapping[str, viser.FrameHandle], joints: Mapping[str, float]) -> None:
        for link, (place, rotation) in self._arm.link_poses(joints).items():
            if link in robot:
                robot[link].position = place
                robot[link].wxyz = np.roll(rotation, 1)

    def _show_ghost(self, moment: Moment) -> None:
        chunk = moment.chunk
        for frame in self._ghost.values():
            self._set_visible(frame, chunk is not None)
        if chunk is None:
            return
        last = len(chunk.positions) - 1
        if self._ghost_step.max < last:
            self._ghost_step.max = last
        step = int(self._ghost_step.value)
        if step < 0:
            step = int(time.monotonic() / chunk.dt) % (last + 1 + round(PAUSE / chunk.dt))
        joints = _row(chunk.joint_names, chunk.positions[min(step, last)])
        self._pose(self._ghost, {**moment.joints, **joints})

    def _show_lines(self, lines: Sequence[Line]) -> None:
        drawn = set()
        for line in lines:
            drawn.add(line.name)
            points = _segments(line.places).astype(np.float32)
            colours = _segments(_linear(line.colours[:, :3]))
            handle = self._lines.get(line.name)
            if handle is None:
                self._lines[line.name] = self.server.scene.add_line_segments(
                    f"/path/{line.name}",
                    points,
                    colours,
                    thickness=_THICKNESS[line.name] * self._size,
                )
                continue
            if not np.array_equal(handle.points, points):
                handle.points, handle.colors = points, colours
            self._set_visible(handle, True)
        for name in self._lines.keys() - drawn:
            self._set_visible(self._lines[name], False)

    @staticmethod
    def _set_visible(handle: viser.SceneNodeHandle, visible: bool) -> None:
        if handle.visible != visible:
            handle.visible = visible

    def _show_image(self, camera: str, jpeg: bytes) -> None:
        if self._shown.get(camera) == jpeg:
            return
        self._shown[camera] = jpeg
        rgb = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        if camera in self._cameras:
            self._cameras[camera].image = rgb
        else:
            self._cameras[camera] = self.server.gui.add_image(rgb, label=camera, format="jpeg")


def as_html(text: str) -> str:
    """Text from topics as a page shows it: whatever markup is in it is shown, not obeyed."""
    return f'<p style="white-space: pre-wrap; margin: 0.5em">{escape(text)}</p>'


def _row(joints: Sequence[str], positions: np.ndarray) -> dict[str, float]:
    return dict(zip(joints, positions.tolist(), strict=True))


def _segments(points: np.ndarray) -> np.ndarray:
    """[n, ...] to [n - 1, 2, ...]: each pair of neighbours."""
    return np.stack([points[:-1], points[1:]], axis=1)


def _linear(colours: np.ndarray) -> np.ndarray:
    """[n, 3] of sRGB, 0 to 1, to what viser takes for lines: 0 to 255, linear in light."""
    return (colours**2.2 * 255).round().astype(np.uint8)


def _extent(arm: Arm, shapes: Sequence[Shape]) -> tuple[np.ndarray, float]:
    """Middle [3] and half the diagonal, in metres, of the robot with all joints at zero."""
    poses = arm.link_poses({})
    corners = []
    for shape in shapes:
        place, (x, y, z, w) = poses[shape.link]
        # Rotation by a unit quaternion: v + 2 u x (u x v + w v).
        axis = np.array([x, y, z])
        rotated = np.cross(axis, np.cross(axis, shape.vertices) + w * shape.vertices)
        corners.append(shape.vertices + 2 * rotated + place)
    low, high = (f([f(c, axis=0) for c in corners], axis=0) for f in (np.min, np.max))
    return (low + high) / 2, float(np.linalg.norm(high - low)) / 2
