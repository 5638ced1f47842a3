"""The operator interface against a node that is faked: what a stop leaves behind when it fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.harness import configure

pytest.importorskip("rclpy")

from std_msgs.msg import Bool

from pi0_ros.motion.enable import MotionEnable
from pi0_ros.node import operator_interface
from pi0_ros.node.operator_interface import Callbacks, OperatorInterface
from pi0_ros.ros.subscriptions import Sender

BUTTON, CURTAIN = (
    SimpleNamespace(endpoint_gid=gid, node_name=name, node_namespace="/")
    for gid, name in ((b"a", "button"), (b"b", "light_curtain"))
)


def test_an_emergency_stop_whose_stopping_raises_is_held_until_its_source_releases_it(monkeypatch):
    def stop() -> None:
        raise RuntimeError("a test")

    monkeypatch.setattr(operator_interface, "AnyQosSubscription", lambda *_: None)
    quiet = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)
    node = SimpleNamespace(
        create_service=lambda *_: None,
        add_on_set_parameters_callback=lambda _: None,
        get_publishers_info_by_topic=lambda _: [BUTTON, CURTAIN],
        get_logger=lambda: quiet,
    )
    enable = MotionEnable()
    callbacks = Callbacks(lambda: "", lambda: "", stop, lambda: None, lambda _: "")
    qos = SimpleNamespace(emergency_stop=None, deadman=None)
    operator = OperatorInterface(node, configure(), qos, enable, callbacks, quiet)

    def reset() -> SimpleNamespace:
        return operator._on_reset(None, SimpleNamespace())

    assert enable.enable(0.0) == ""
    with pytest.raises(RuntimeError, match="a test"):  # the node counts and logs it
        operator._on_emergency_stop(Bool(data=True), Sender(1, b"a"))
    assert not enable.enabled and enable.latched == "the emergency stop"
    operator._on_emergency_stop(Bool(data=False), Sender(2, b"b"))
    answer = reset()
    assert not answer.success and "/button holds it: publish false there first" in answer.message
    assert enable.check(0.0)
    operator._on_emergency_stop(Bool(data=False), Sender(3, b"a"))
    assert reset().success and not enable.enabled and enable.enable(0.0) == ""
