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
from pi0_ros.view.timeline import DRY_RUN, ENABLED, Moment
from pi0_ros.viz.scene import EXECUTED, FAR, NEAR, PASSED, REJECTED, REPLACED, Line

HOST = "127.0.0.1"
PAUSE = 0.5
"""Seconds for which the ghost rests at the end of a chunk."""

GHOST_COLOUR = (90, 150, 255)
GHOST_OPACITY = 0.35
GHOST_SKIN = 0.004
"""Share of the robot's size by which the ghost is thicker: surfaces in one place would flicker."""

_DARKEST = 90
"""Of 255: link colours below are raised to it, or a black robot has no shape on a dark page."""

_STATE_COLOURS = {ENABLED: "#2b8a3e", DRY_RUN: "#b26a00"}  # latched: red
_PLAY, _PAUSE = "▶ play", "⏸ pause"
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
        step: int | None = None,
    ) -> None:
        """Serve the page.

        Args:
            shapes: of `arm`.
            port: where to listen; the next free one, if it is taken.
            seconds: the ends of the time slider.
            live: the slider counts back from now.
            at: seconds at which to stand still at first; None: it plays from the beginning.
            step: of the chunks, at which the ghost stands at first; None: it plays them.
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
        scene = self.server.scene
        scene.add_grid("/grid", width, width, cell_size=0.1, section_size=0.5)
        scene.configure_default_lights(enabled=False)
        scene.add_light_hemisphere("/light/sky", ground_color=(120, 120, 130), intensity=0.7)
        scene.add_light_directional(
            "/light/key",
            intensity=0.9,
            cast_shadow=True,
            position=tuple(middle + np.array([2.0, -3.0, 4.0])),
        )
        scene.add_light_directional(
            "/light/fill", intensity=0.3, position=tuple(middle + np.array([-3.0, 2.0, 2.0]))
        )
        self._robot = self._add_robot("/robot", shapes, None)
        self._ghost = self._add_robot("/ghost", shapes, GHOST_COLOUR)
        self._lines: dict[str, viser.LineSegmentsHandle] = {}
        self._cameras: dict[str, viser.GuiImageHandle] = {}
        self._shown: dict[str, bytes] = {}

        gui, (first, last) = self.server.gui, seconds
        label = "seconds ago" if live else "time (s)"
        begin = last if live else first if at is None else min(max(at, first), last)
        self.time = gui.add_slider(label, first, last, 0.01, begin)
        self.playing, self._ghost_plays = at is None, step is None
        self._play = gui.add_button(_PAUSE if self.playing else _PLAY, visible=not live)
        self._play.on_click(lambda _: self._toggle_play())
        self._ghost_step = gui.add_slider("ghost at step", 0, max(step or 0, 1), 1, step or 0)
        self._ghost_step.on_update(self._on_ghost_step)
        self._play_ghost = gui.add_button(_ghost_label(self._ghost_plays))
        self._play_ghost.on_click(lambda _: self._set_ghost_plays(not self._ghost_plays))
        self._state = gui.add_html("")
        self._text = gui.add_html("")
        with gui.add_folder("legend"):
            gui.add_html(legend())

    @property
    def address(self) -> str:
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
        state = badge(moment.state)
        if state != self._state.content:
            self._state.content = state

    def stop(self) -> None:
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
            vertices = shape.vertices
            if colour:
                vertices = thicker(vertices, shape.faces, GHOST_SKIN * self._size)
            self.server.scene.add_mesh_simple(
                f"{link}/{number}",
                vertices,
                shape.faces,
                color=colour or tuple(max(_DARKEST, part) for part in shape.colour),
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
        if self._ghost_plays:
            step = int(time.monotonic() / chunk.dt) % (last + 1 + round(PAUSE / chunk.dt))
        joints = _row(chunk.joint_names, chunk.positions[min(step, last)])
        self._pose(self._ghost, {**moment.joints, **joints})

    def _toggle_play(self) -> None:
        self.playing = not self.playing
        self._play.label = _PAUSE if self.playing else _PLAY

    def _set_ghost_plays(self, plays: bool) -> None:
        self._ghost_plays = plays
        self._play_ghost.label = _ghost_label(plays)

    def _on_ghost_step(self, event: viser.GuiEvent) -> None:
        """Whoever moves the slider wants to see that step."""
        if event.client_id is not None:
            self._set_ghost_plays(False)

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


def badge(state: str) -> str:
    """The state in white on its colour; nothing where there is none."""
    if not state:
        return ""
    colour = _STATE_COLOURS.get(state, "#c92a2a")
    style = f"background: {colour}; color: #fff; border-radius: 4px; padding: 0.2em 0.6em"
    return f'<p style="margin: 0.5em"><span style="{style}">{escape(state)}</span></p>'


def legend() -> str:
    rows = [
        (f"linear-gradient(90deg, {_css(NEAR)}, {_css(FAR)})", "chunk: next step to last"),
        (_css(EXECUTED), "due already, executed"),
        (_css(PASSED), "due already, dry run"),
        (_css(REPLACED), "replaced by a newer chunk"),
        (_css(REJECTED), "rejected"),
        (_css(tuple(c / 255 for c in GHOST_COLOUR)), "ghost: the chunk's joints"),
    ]
    swatch = "display: inline-block; width: 2.5em; height: 0.8em; margin-right: 0.6em; background: "
    lines = (f'<div><span style="{swatch}{colour}"></span>{text}</div>' for colour, text in rows)
    return f'<div style="margin: 0.5em">{"".join(lines)}</div>'


def _css(colour: Sequence[float]) -> str:
    return f"rgb({', '.join(str(round(part * 255)) for part in colour[:3])})"


def _ghost_label(plays: bool) -> str:
    return "⏸ stop the ghost" if plays else "▶ play the ghost"


def thicker(vertices: np.ndarray, faces: np.ndarray, by: float) -> np.ndarray:
    """[n, 3] vertices moved by so many metres along the mean normal of their faces.

    Like trimesh's vertex_normals, which logs a traceback per mesh where SciPy is not installed.
    """
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], np.cross(second - first, third - first))
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return (vertices + by * normals / np.maximum(lengths, 1e-12)).astype(np.float32)


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
