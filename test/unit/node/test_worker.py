"""The worker thread."""

import threading

import numpy as np
import pytest
from support.harness import DT, HORIZON, FakePolicy
from support.waiting import wait_until

from pi0_ros.motion.refusal import Refusal
from pi0_ros.node.observation import Snapshot
from pi0_ros.node.worker import PolicyWorker

SNAPSHOT = Snapshot({}, {"front": 5}, np.zeros(3), 7, "go")


def loaded(policy: FakePolicy) -> tuple[PolicyWorker, threading.Event]:
    ready = threading.Event()
    worker = PolicyWorker(ready.set)
    assert worker.load(lambda: policy, lambda: None) is None
    assert worker.policy is policy
    ready.clear()
    return worker, ready


def begin(worker: PolicyWorker) -> None:
    worker.infer(SNAPSHOT, lambda message: message, False, None, 0.0)


def test_one_inference_at_a_time_in_the_thread_that_loaded():
    policy, threads = FakePolicy(), []
    policy.corrupt = lambda positions: threads.append(threading.get_ident()) or positions
    policy.go_on.clear()
    ready = threading.Event()
    worker = PolicyWorker(ready.set)
    worker.load(lambda: threads.append(threading.get_ident()) or policy, lambda: None)
    ready.clear()
    assert worker.take() is None and not worker.busy
    begin(worker)
    assert policy.started.wait(10) and worker.busy
    begin(worker)
    policy.go_on.set()
    assert ready.wait(10) and worker.busy, "busy until the outcome is taken"
    begin(worker)
    assert worker.take() is not None and not worker.busy
    assert worker.take() is None, "an outcome is taken once"
    assert len(policy.seen) == 1, "busy: the others were not begun"
    ready.clear()
    begin(worker)
    assert ready.wait(10) and len(policy.seen) == 2
    assert len(threads) == 3 and len(set(threads)) == 1
    assert threading.get_ident() not in threads
    assert worker.stop(10)


def test_the_thread_survives_whatever_is_raised():
    policy, errors = FakePolicy(), [ValueError("x"), SystemExit(3)]

    def fail(positions):
        if errors:
            raise errors.pop()
        return positions

    policy.corrupt = fail
    worker, ready = loaded(policy)
    for name in ("SystemExit", "ValueError"):
        begin(worker)
        assert ready.wait(10)
        ready.clear()
        with pytest.raises(Refusal, match=f"failed: {name}"):
            worker.take()
    begin(worker)
    assert ready.wait(10) and worker.take() is not None
    assert worker.stop(10)


def test_stop_is_bounded_and_silences_a_running_inference():
    policy = FakePolicy()
    policy.go_on.clear()
    worker, ready = loaded(policy)
    begin(worker)
    assert policy.started.wait(10)
    assert not worker.stop(0.05)
    policy.go_on.set()
    wait_until(lambda: not worker._thread.is_alive(), "the end of the thread")
    assert not ready.is_set(), "nobody is there to be notified any more"


def test_an_inference_has_its_chunk_and_what_it_was_made_of():
    policy = FakePolicy()
    worker, ready = loaded(policy)
    worker.infer(SNAPSHOT, lambda message: message, True, "epoch", 3.0)
    assert worker.busy and ready.wait(10)
    inference = worker.take()
    assert not worker.busy and worker.take() is None
    assert (inference.epoch, inference.ticked) == ("epoch", 3.0)
    assert inference.snapshot is SNAPSHOT and policy.resets == 1
    assert inference.chunk.positions.shape == (HORIZON, 3) and inference.chunk.dt == DT
    worker.close(10)
    assert worker.policy is None


def test_what_a_policy_raises_is_a_refusal_with_its_cause():
    worker, ready = loaded(FakePolicy(corrupt=lambda positions: 1 / 0))
    begin(worker)
    assert ready.wait(10)
    with pytest.raises(Refusal, match="failed: ZeroDivisionError") as caught:
        worker.take()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert worker.close(10)


def test_what_loading_raises_is_returned():
    worker = PolicyWorker(lambda: None)
    error = worker.load(lambda: 1 / 0, lambda: None)
    assert isinstance(error, ZeroDivisionError) and worker.policy is None
    assert worker.close(10)


def test_a_hung_inference_is_given_up_once_and_leaves_no_outcome():
    policy = FakePolicy()
    policy.go_on.clear()
    worker, ready = loaded(policy)
    begin(worker)
    assert policy.started.wait(10)
    assert worker.give_up(60.0) is None
    refusal = worker.give_up(0.0)
    assert refusal.reason == "timeout" and worker.busy
    assert worker.give_up(0.0) is None
    policy.go_on.set()
    assert ready.wait(10)
    assert worker.take() is None and not worker.busy
    assert worker.close(10)
