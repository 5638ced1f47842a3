"""ROS domains that nothing else on this machine uses."""

from __future__ import annotations

import random
import socket

LAST = 101
"""Above it, DDS's ports (7400 + 250 * domain) run into Linux's ephemeral ones."""

MOST = 12
"""Domains that a process holds, so that some are left for the others."""

_held: dict[int, socket.socket] = {}


def free_domain() -> int:
    """A ROS domain, 1 to 101, without participants, that no test run beside this one is given.

    A process holds the newest ones; what is given back may still have participants, which keep it.
    """
    while len(_held) >= MOST:
        _held.pop(next(iter(_held))).close()
    domains = list(range(1, LAST + 1))
    random.shuffle(domains)
    for domain in domains:
        if domain not in _held and _has_no_participant(domain) and _hold(domain):
            return domain
    raise RuntimeError("every ROS domain from 1 to 101 is in use on this machine")


def _has_no_participant(domain: int) -> bool:
    """Whether the port of the first participant's discovery data is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7400 + 250 * domain + 10))
        except OSError:
            return False
    return True


def _hold(domain: int) -> bool:
    """Reserve the domain: an abstract socket belongs to one process and ends with it."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0pi0_ros_test_domain_{domain}")
    except OSError:
        lock.close()
        return False
    _held[domain] = lock
    return True
