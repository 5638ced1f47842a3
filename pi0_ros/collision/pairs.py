"""Which pairs of links are compared: those of an SRDF, or all but neighbours."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.parsers import expat

from pi0_ros.motion.urdf import Urdf, UrdfError

LARGEST = 4 * 2**20
"""Bytes of an SRDF at most."""

Pair = frozenset[str]
"""Two links."""


def all_pairs(urdf: Urdf) -> set[Pair]:
    """Links that can move towards each other."""
    body = _bodies(urdf)
    return {
        frozenset(pair) for pair in combinations(urdf.links, 2) if body[pair[0]] != body[pair[1]]
    }


def without_neighbours(urdf: Urdf) -> set[Pair]:
    """All pairs but those that one joint joins, fixed joints in between not counted."""
    body = _bodies(urdf)
    joined = {
        frozenset((body[joint.parent], body[joint.child]))
        for joint in urdf.joints.values()
        if body[joint.parent] != body[joint.child]
    }
    return {p for p in all_pairs(urdf) if frozenset(body[link] for link in p) not in joined}


def of_srdf(urdf: Urdf, path: Path) -> set[Pair]:
    """All pairs but those that an SRDF disables.

    Read are `disable_collisions`, `disable_default_collisions` and `enable_collisions`.

    Raises:
        UrdfError: no SRDF of this robot.
    """
    pairs = all_pairs(urdf)
    enabled: set[Pair] = set()
    known, named = set(urdf.links), []
    root: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if not root:
            root.append(name)
        if name == "disable_default_collisions":
            link = attributes.get("link", "")
            named.append(link)
            pairs.difference_update({pair for pair in pairs if link in pair})
        elif name in ("disable_collisions", "enable_collisions"):
            links = attributes.get("link1", ""), attributes.get("link2", "")
            named.extend(links)
            if name == "disable_collisions":
                pairs.discard(frozenset(links))
            else:
                enabled.add(frozenset(links))

    def doctype(*_: object) -> None:
        raise UrdfError(["an SRDF with a document type is not read"])

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, doctype
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UrdfError([f"larger than {LARGEST} bytes; no SRDF"])
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UrdfError([f"no XML: {error}"]) from error
    unknown = sorted(set(named) - known)
    if root != ["robot"] or not named:
        raise UrdfError(["expected an SRDF: <robot> with disable_collisions, found none"])
    if unknown:
        raise UrdfError([f"names links that the URDF does not have: {', '.join(unknown[:10])}"])
    return pairs | (enabled & all_pairs(urdf))


def _bodies(urdf: Urdf) -> dict[str, str]:
    """Link -> the topmost link that it cannot move against."""
    body = {}
    for link in urdf.links:
        top = link
        for joint in urdf.way_to(link):
            if joint.type != "fixed":
                break
            top = joint.parent
        body[link] = top
    return body
