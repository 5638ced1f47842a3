"""A ROS graph of one's own: a free domain on the loopback, a transport and allocator for images."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pi0_ros.share import find_shared_file

# glibc gives freed blocks of this size back to the kernel by default, and an image's buffer with
# them: every message then pays for fresh pages. Blocks up to this size, 1080p and more, it keeps;
# larger ones (4K) would tear holes into its heap, which then grows by one now and then.
MMAP_THRESHOLD = str(16 << 20)
TRIM_THRESHOLD = str(256 << 20)
# DDS derives its UDP ports from the domain: 7400 + 250 * domain (DDSI-RTPS 2.2, section 9.6.1);
# above 101 they run into Linux's ephemeral ports.
LAST_DOMAIN = 101


def free_domain() -> int:
    """A ROS domain that no process of this machine takes part in, from 1 to 101."""
    domains = list(range(1, LAST_DOMAIN + 1))
    random.shuffle(domains)
    for domain in domains:
        # The first participant of a domain receives discovery data on port 7400 + 250 * d + 10.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + 10))
            except OSError:
                continue
            return domain
    raise RuntimeError("every ROS domain from 1 to 101 is in use on this machine")


def private_graph(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for this process and the nodes it starts; what the user has set stays.

    They put ROS on the loopback (ROS_AUTOMATIC_DISCOVERY_RANGE; Humble has ROS_LOCALHOST_ONLY
    instead) in a domain of its own, and set the Fast DDS profile and the allocator.
    """
    variables = {
        "MALLOC_MMAP_THRESHOLD_": MMAP_THRESHOLD,
        "MALLOC_TRIM_THRESHOLD_": TRIM_THRESHOLD,
    }
    if environ.get("ROS_DISTRO") == "humble":
        variables["ROS_LOCALHOST_ONLY"] = "1"
    else:
        variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    variables |= image_profile(environ)
    if "ROS_DOMAIN_ID" not in environ:
        variables["ROS_DOMAIN_ID"] = str(free_domain())
    return {name: value for name, value in variables.items() if name not in environ}


def image_profile(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that give Fast DDS shared memory for raw images; none if the user has set one.

    Jazzy and Humble read the first name, Kilted the second.
    """
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    profile = find_shared_file("config/fastdds.xml")
    if profile is None or any(name in environ for name in names):
        return {}
    return dict.fromkeys(names, str(profile))


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables of this process for the length of a `with` block."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)
