"""The worker thread."""

import threading

import numpy as np
import pytest
from support.harness import DT, HORIZON, FakePolicy
from support.waiting import wait_until

from pi0_ros.motion.refusal import Refusal
from pi0_ros.node.observation import Snapshot
from pi0_ros.node.worker import PolicyWorker, Worker


def finished(worker: Worker, ready: threading.Event):
    assert ready.wait(10)
    ready.clear()
    return worker.take()


def test_one_job_at_a_time_in_one_thread():
    ready, gate = threading.Event(), threading.Event()
    worker = Worker(ready.set)
    assert worker.take() is None and not worker.busy
    assert worker.submit(lambda: (gate.wait(10), threading.get_ident()))
    assert worker.busy and not worker.submit(lambda: None), "the slot is taken"
    gate.set()
    first = finished(worker, ready)
    assert not worker.busy and worker.take() is None, "an outcome is taken once"
    assert worker.submit(threading.get_ident)
    second = finished(worker, ready)
    assert first.value[1] == second.value != threading.get_ident()
    assert worker.stop(10)


def test_the_slot_is_taken_until_the_outcome_is():
    ready = threading.Event()
    worker = Worker(ready.set)
    worker.submit(lambda: 1)
    assert ready.wait(10)
    assert worker.busy and not worker.submit(lambda: 2)
    assert worker.take().value == 1
    assert worker.stop(10)


def test_an_exception_is_an_outcome_and_the_thread_lives():
    ready = threading.Event()
    worker = Worker(ready.set)
    for error in (ValueError("x"), SystemExit(3)):

        def fail(error=error):
            raise error

        worker.submit(fail)
        assert finished(worker, ready).error is error
    worker.submit(lambda: "still here")
    assert finished(worker, ready).value == "still here"
    assert worker.stop(10)


def test_stop_is_bounded_and_silences_a_running_job():
    ready, running, gate = threading.Event(), threading.Event(), threading.Event()
    worker = Worker(ready.set)
    worker.submit(lambda: (running.set(), gate.wait(10)))
    assert running.wait(10)
    assert not worker.stop(0.05)
    gate.set()
    wait_until(lambda: not worker._thread.is_alive(), "the end of the thread")
    assert not ready.is_set(), "nobody is there to be notified any more"


# The policy in it ---------------------------------------------------------------------------------

SNAPSHOT = Snapshot({}, {"front": 5}, np.zeros(3), 7, "go")


def loaded(policy: FakePolicy) -> tuple[PolicyWorker, threading.Event]:
    ready = threading.Event()
    worker = PolicyWorker(ready.set)
    assert worker.load(lambda: policy, lambda: None) is None
    assert worker.policy is policy
    ready.clear()
    return worker, ready


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
    worker.infer(SNAPSHOT, lambda message: message, False, None, 0.0)
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
    worker.infer(SNAPSHOT, lambda message: message, False, None, 0.0)
    assert policy.started.wait(10)
    assert worker.give_up(60.0) is None
    refusal = worker.give_up(0.0)
    assert refusal.reason == "timeout" and worker.busy
    assert worker.give_up(0.0) is None
    policy.go_on.set()
    assert ready.wait(10)
    assert worker.take() is None and not worker.busy
    assert worker.close(10)
