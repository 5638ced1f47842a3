"""The worker thread."""

import threading

from support.waiting import wait_until

from pi0_ros.node.worker import Worker


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
