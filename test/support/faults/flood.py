"""Load as a process of its own: PUBLISHERS more publishers on every topic, each at HZ.

Their messages are valid; there are only too many. At its end it prints how many messages a second
it published.
"""

from __future__ import annotations

import signal
import time
from collections import deque

import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import JointState

from support.faults.robot import STREAMS, advertise, message_of

PUBLISHERS = 5
HZ = 200


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("flood")
    received: deque[JointState] = deque(maxlen=1)
    node.create_subscription(JointState, "arm", lambda message: received.append(message), 1)
    flood = [advertise(node) for _ in range(PUBLISHERS)]
    while not received:
        rclpy.spin_once(node)
    print("ready", flush=True)
    begun, rounds, sent = time.monotonic(), 0, 0
    try:
        while rclpy.ok():
            now = time.monotonic()
            if (now - begun) * HZ <= rounds:
                rclpy.spin_once(node, timeout_sec=0.001)
                continue
            # A late round is not caught up with: that would be another fault.
            rounds = max(rounds + 1, int((now - begun) * HZ) - 1)
            sent += 1
            rclpy.spin_once(node, timeout_sec=0)
            for name in STREAMS:
                message = message_of(name, time.time_ns(), rounds, received[0])
                for member in flood:
                    member[name].publish(message)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rate = sent / (time.monotonic() - begun)
        print(f"{rate:.0f} rounds/s of {PUBLISHERS * len(STREAMS)} messages", flush=True)


if __name__ == "__main__":
    main()
