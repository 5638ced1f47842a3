"""What a URDF says about joints and links, read with nothing but an XML parser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from xml.parsers import expat

from pi0_ros.errors import ProblemsError

LARGEST = 16 * 2**20
"""Bytes of a URDF at most."""

MOST_LINKS = 2000
"""Parsers go down the tree by recursion: a chain without end would end the process."""

_NAMED = 30  # names that an error lists at most


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


@dataclass(frozen=True)
class Urdf:
    """Attributes:
    text: the document.
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


def read_elements(content: bytes) -> tuple[list[str], list[dict[str, Any]]]:
    """The links and joints of a URDF, as it declares them; they need not form a tree.

    Nothing that a document type could declare is expanded or fetched: having one is an error.

    Args:
        content: at most LARGEST bytes of XML.

    Returns:
        The links' names, and per joint its `name`, `type`, `parent`, `child`, its mimic joint's
        `mimic`, `multiplier` and `offset` if it has one, and the attributes of its <limit> as
        `limit`.

    Raises:
        UrdfError: no XML or no URDF.
    """
    if len(content) > LARGEST:
        raise UrdfError([f"larger than {LARGEST} bytes; no robot description"])
    links: list[str] = []
    joints: list[dict[str, Any]] = []
    open_elements: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        open_elements.append(name)
        if open_elements[0] != "robot":
            raise UrdfError([f"expected a URDF (<robot>), the root is <{name}>"])
        # <transmission>, <ros2_control> and <gazebo> hold joints and links too, further in.
        if open_elements == ["robot", "link"]:
            links.append(attributes.get("name", ""))
        elif open_elements == ["robot", "joint"]:
            named = {key: attributes.get(key, "") for key in ("name", "type")}
            joints.append({**named, "parent": "", "child": "", "limit": {}})
        elif len(open_elements) == 3 and open_elements[1] == "joint":
            if name in ("parent", "child"):
                joints[-1][name] = attributes.get("link", "")
            elif name == "limit":
                joints[-1]["limit"] = attributes
            elif name == "mimic":
                joints[-1]["mimic"] = attributes.get("joint", "")
                for key, default in (("multiplier", "1"), ("offset", "0")):
                    joints[-1][key] = _number(attributes.get(key, default), joints[-1]["name"], key)

    def refuse(*_: Any) -> None:
        raise UrdfError(["a URDF with a document type is not read"])

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UrdfError([f"no XML: {error}"]) from error
    return links, joints


def parse_urdf(text: str) -> Urdf:
    """Read the tree of links and joints.

    Raises:
        UrdfError: no XML, no URDF, or not one tree of links and joints.
    """
    links, joints = read_elements(text.encode("utf-8", "surrogatepass"))
    if len(links) > MOST_LINKS:
        raise UrdfError([f"{len(links)} links; at most {MOST_LINKS} are read"])
    names = [field.name for field in fields(UrdfJoint)]
    read = [UrdfJoint(**{k: joint[k] for k in names if k in joint}) for joint in joints]
    _check_tree(links, read)
    return Urdf(text, tuple(links), {joint.name: joint for joint in read})


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
    for what, names in (("link", links), ("joint", [joint.name for joint in joints])):
        doubled = [name for name, count in Counter(names).items() if count > 1]
        problems += [f"{what} {name!r} is there more than once" for name in doubled]
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
        return float(text)
    except ValueError:
        raise UrdfError([f"joint {joint}: <mimic {key}> must be a number, got {text!r}"]) from None


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "none") + more
