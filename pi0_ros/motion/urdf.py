"""What a URDF says about joints and links, read with nothing but an XML parser."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from pi0_ros.errors import ProblemsError

LARGEST = 4 * 2**20
"""Bytes of a URDF at most."""

MOST_LINKS = 2000
"""Parsers go down the tree by recursion: a chain without end would end the process."""

_NAMED = 30  # names that an error lists at most
_LONGEST = 2**16  # bytes of an element; expat's cost of one with many attributes is high
_LONGEST_NUMBER = 100  # characters
_DEEPEST = 50
_MOST_ELEMENTS = 100_000
_XACRO = "{} is xacro, which is to be processed first: xacro FILE.urdf.xacro > FILE.urdf"

_KEPT = {
    "robot": {"link", "joint", "material"},
    "link": {"collision"},  # and <visual>, which holds the same
    "collision": {"origin", "geometry", "material"},
    "geometry": {"box", "sphere", "cylinder", "capsule", "mesh"},
    "material": {"color"},
    "joint": {"parent", "child", "origin", "axis", "limit", "mimic"},
}
_ATTRIBUTES = frozenset(
    {
        "name", "type", "link", "xyz", "rpy", "size", "radius", "length", "filename", "scale",
        "rgba", "lower", "upper", "velocity", "effort", "joint", "multiplier", "offset",
    }
)  # fmt: skip


class UrdfError(ProblemsError):
    """A robot description that cannot be used."""


@dataclass(frozen=True)
class UrdfJoint:
    """One <joint>; `mimic` is the joint it follows, or "": value = multiplier * mimic + offset."""

    name: str
    type: str
    parent: str
    child: str
    mimic: str = ""
    multiplier: float = 1.0
    offset: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether one number says where it is: radians, or metres for a prismatic joint."""
        return self.type in ("revolute", "continuous", "prismatic")

    @property
    def unit(self) -> str:
        """ "rad" or "m": of the number."""
        return "m" if self.type == "prismatic" else "rad"


@dataclass(frozen=True)
class Urdf:
    """Attributes:
    text: the document, with nothing but what kinematics and shapes need; attributes and
        elements that no URDF has cost parsers much.
    links: names, in the order of the document.
    joints: name -> joint.
    """

    text: str
    links: tuple[str, ...]
    joints: dict[str, UrdfJoint] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The link that is no joint's child."""
        children = {joint.child for joint in self.joints.values()}
        return next(link for link in self.links if link not in children)

    def way_to(self, link: str) -> list[UrdfJoint]:
        """The joints from a link up to the root, the link's own one first."""
        above = {joint.child: joint for joint in self.joints.values()}
        way: list[UrdfJoint] = []
        while link in above:
            way.append(above[link])
            link = way[-1].parent
        return way


@dataclass
class Elements:
    """What a URDF declares; links and joints need not form a tree.

    Attributes:
        links: names.
        joints: per joint its `name`, `type`, `parent`, `child`, its mimic joint's `mimic`,
            `multiplier` and `offset` if it has one, and the attributes of its <limit> and
            <safety_controller> as `limit` and `soft`.
        commands: (joint, interface, "min" or "max", text) of ros2_control's command interfaces.
        plain: the document without what neither kinematics nor shapes need.
    """

    links: list[str] = field(default_factory=list)
    joints: list[dict[str, Any]] = field(default_factory=list)
    commands: list[tuple[str, str, str, str]] = field(default_factory=list)
    plain: str = ""


def read_elements(content: bytes) -> Elements:
    """The links and joints of a URDF, as it declares them.

    Nothing that a document type could declare is expanded or fetched: having one is an error.

    Args:
        content: at most LARGEST bytes of XML.

    Raises:
        UrdfError: no XML or no URDF; xacro that is to be processed; a name twice.
    """
    if len(content) > LARGEST:
        raise UrdfError([f"larger than {LARGEST} bytes; no robot description"])
    if re.search(rb"<[^<]{%d}" % _LONGEST, content):
        raise UrdfError([f"an element or comment of more than {_LONGEST} bytes; no URDF"])
    reader = _Reader()
    try:
        reader.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UrdfError([f"no XML: {error}"]) from error
    found = reader.elements
    if len(found.links) > MOST_LINKS:
        raise UrdfError([f"{len(found.links)} links; at most {MOST_LINKS} are read"])
    problems = reader.problems
    for what, names in (("link", found.links), ("joint", [j["name"] for j in found.joints])):
        doubled = [name for name, count in Counter(names).items() if count > 1]
        problems += [f"{what} {name!r} is there more than once" for name in doubled[:_NAMED]]
    if problems:
        raise UrdfError(problems)
    found.plain = "".join(reader.written)
    return found


class _Reader:
    """Takes expat's events."""

    def __init__(self) -> None:
        self.elements = Elements()
        self.problems: list[str] = []
        self.written: list[str] = []
        self._open: list[str] = []
        self._count = 0
        self._command = ("", "", "")  # joint, interface, min or max
        self._text = ""
        parser = self.parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.buffer_text = True

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        path = self._open
        path.append(name)
        if path[0] != "robot":
            raise UrdfError([f"expected a URDF (<robot>), the root is <{name}>"])
        self._count += 1
        if self._count > _MOST_ELEMENTS:
            raise UrdfError([f"more than {_MOST_ELEMENTS} elements; no robot description"])
        if len(path) > _DEEPEST:
            raise UrdfError([f"elements deeper than {_DEEPEST} levels; no robot description"])
        if name.startswith("xacro:"):
            raise UrdfError([_XACRO.format(f"<{name}>")])
        # <transmission>, <ros2_control> and <gazebo> hold joints and links too, further in.
        if path == ["robot", "link"]:
            self.elements.links.append(attributes.get("name", ""))
        elif path == ["robot", "joint"]:
            named = {key: attributes.get(key, "") for key in ("name", "type")}
            joint = {**named, "parent": "", "child": "", "limit": {}, "soft": {}}
            self.elements.joints.append(joint)
        elif len(path) == 3 and path[1] == "joint":
            self._of_joint(self.elements.joints[-1], name, attributes)
        elif path[1:2] == ["ros2_control"]:
            self._of_control(path[2:], attributes)
        if self._is_kept():
            self._write(name, attributes)

    def _of_joint(self, joint: dict[str, Any], name: str, attributes: dict[str, str]) -> None:
        if name in ("parent", "child"):
            joint[name] = attributes.get("link", "")
        elif name in ("limit", "safety_controller"):
            key = "limit" if name == "limit" else "soft"
            if joint[key]:
                self.problems.append(f"joint {joint['name']} has <{name}> more than once")
            joint[key] = attributes
        elif name == "mimic":
            joint["mimic"] = attributes.get("joint", "")
            for key, default in (("multiplier", "1"), ("offset", "0")):
                joint[key] = _number(attributes.get(key, default), joint["name"], key)

    def _of_control(self, path: list[str], attributes: dict[str, str]) -> None:
        joint, interface, _ = self._command
        name = attributes.get("name", "")
        if path == ["joint"]:
            self._command = name, "", ""
        elif path == ["joint", "command_interface"]:
            self._command = joint, name, ""
        elif path == ["joint", "command_interface", "param"] and name in ("min", "max"):
            self._command = joint, interface, name
            self._text = ""

    def _characters(self, text: str) -> None:
        if self._command[2] and len(self._text) < _LONGEST_NUMBER:
            self._text += text

    def _end(self, name: str) -> None:
        if self._is_kept():
            self.written.append(f"</{name}>")
        if self._command[2] and name == "param":
            self.elements.commands.append((*self._command, self._text.strip()))
            self._command = *self._command[:2], ""
        self._open.pop()

    def _is_kept(self) -> bool:
        path = self._open
        if path == ["robot"]:
            return True
        kinds = ["robot", *(k if k != "visual" else "collision" for k in path[1:])]
        return all(child in _KEPT.get(parent, ()) for parent, child in pairwise(kinds))

    def _write(self, name: str, attributes: dict[str, str]) -> None:
        kept = {key: value for key, value in attributes.items() if key in _ATTRIBUTES}
        for value in kept.values():
            if "${" in value or "$(" in value:
                raise UrdfError([_XACRO.format(repr(value[:80]))])
        self.written.append(f"<{name}{''.join(f' {k}={quoteattr(v)}' for k, v in kept.items())}>")

    def _doctype(self, *_: Any) -> None:
        raise UrdfError(["a URDF with a document type is not read"])


def parse_urdf(text: str) -> Urdf:
    """Read the tree of links and joints.

    Raises:
        UrdfError: no XML, no URDF, or not one tree of links and joints.
    """
    found = read_elements(text.encode("utf-8", "surrogatepass"))
    links, joints = found.links, found.joints
    names = [field.name for field in fields(UrdfJoint)]
    read = [UrdfJoint(**{k: joint[k] for k in names if k in joint}) for joint in joints]
    _check_tree(links, read)
    return Urdf(found.plain, tuple(links), {joint.name: joint for joint in read})


def joint_problems(urdf: Urdf, joints: Sequence[str]) -> list[str]:
    """The joints that the robot does not have, or that do not move."""
    problems = []
    missing = [name for name in joints if name not in urdf.joints]
    if missing:
        moving = [joint.name for joint in urdf.joints.values() if joint.moves]
        problems.append(f"no joint is called {_names(missing)}; those that move: {_names(moving)}")
    for name in joints:
        joint = urdf.joints.get(name)
        if joint is not None and (not joint.moves or joint.mimic):
            what = f"follows {joint.mimic}" if joint.mimic else f"is of type {joint.type!r}"
            problems.append(f"joint {name} {what}; expected one that moves by itself")
    return problems


def tool_link(urdf: Urdf, joints: Sequence[str], wanted: str = "") -> str:
    """The link whose path is shown.

    Args:
        joints: those of the policy.
        wanted: its name; "" chooses a link without children: the one that most of `joints` carry,
            its own one not counted, and of these one that is fixed to its parent (a tool frame)
            before one that moves (a finger), and the last of the document.

    Raises:
        UrdfError: there is no such link, or none that the joints move.
    """
    if wanted:
        if wanted not in urdf.links:
            raise UrdfError([f"tool_frame: no link is called {wanted!r}; {_names(urdf.links)} are"])
        if not any(joint.name in joints for joint in urdf.way_to(wanted)):
            raise UrdfError([f"tool_frame: none of the joints {_names(joints)} moves {wanted}"])
        return wanted
    parents = {joint.parent for joint in urdf.joints.values()}
    ranked = []
    for place, link in enumerate(urdf.links):
        way = urdf.way_to(link)
        if link in parents or not any(joint.name in joints for joint in way):
            continue
        carrying = sum(joint.name in joints for joint in way[1:])
        ranked.append((carrying, not way[0].moves, place))
    if not ranked:
        raise UrdfError([f"none of the joints {_names(joints)} moves a link at the end of a chain"])
    return urdf.links[max(ranked)[2]]


def _check_tree(links: Sequence[str], joints: Sequence[UrdfJoint]) -> None:
    """Every joint joins two links, and one link is the root of all."""
    problems = [] if links else ["no links"]
    known = set(links)
    for joint in joints:
        for end, link in (("parent", joint.parent), ("child", joint.child)):
            if link not in known:
                problems.append(f"joint {joint.name}: its {end} {link!r} is no link")
    parent_of: dict[str, str] = {}
    for joint in joints:
        if joint.child in parent_of:
            problems.append(f"link {joint.child} is the child of more than one joint")
        parent_of[joint.child] = joint.parent
    roots = [link for link in links if link not in parent_of]
    if links and len(roots) != 1:
        problems.append(f"expected one link that is nobody's child, found {_names(roots)}")
    if problems:
        raise UrdfError(problems)
    # With one root and one parent each, what does not lead up to the root goes round in a circle.
    for link in links:
        seen = set()
        while link in parent_of:
            if link in seen:
                raise UrdfError([f"the links above {link} form a circle"])
            seen.add(link)
            link = parent_of[link]


def _number(text: str, joint: str, key: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UrdfError([f"joint {joint}: <mimic {key}> must be a number, got {text[:80]!r}"])
    return value


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "none") + more
