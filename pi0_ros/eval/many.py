"""Many recordings evaluated one after another, by processes, or by Ray, with the same results."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from pi0_ros.eval.recording import Evaluated, Job, evaluate, seconds_of

RAY_MISSING = "--ray: Ray is not installed (pip install ray, or pip install 'pi0_ros[ray]')"
LOCAL = "local"
"""Address that starts a Ray on this machine's loopback, for as long as the evaluation runs."""

OnDone = Callable[[int, Evaluated], None]


class EvalError(RuntimeError):
    """The evaluation as a whole failed; what is wrong with one recording is in its result."""


def evaluate_all(
    jobs: Sequence[Job], workers: int = 1, ray_address: str = "", progress: bool = True
) -> list[Evaluated]:
    """Evaluates every recording; results are in the order of the jobs.

    Args:
        workers: processes, each of which loads the policy once; with 1 it happens in this one.
        ray_address: of a Ray cluster, `auto`, or `local`; "" for none. Its machines find the
            recordings, the checkpoint and this package under the same paths.

    Raises:
        EvalError: a process died, or there is no Ray at the address.
    """
    lengths = [seconds_of(job.bag) for job in jobs]
    results: dict[int, Evaluated] = {}
    with _bar(lengths, progress) as (on_done, on_time):

        def done(number: int, result: Evaluated) -> None:
            results[number] = result
            on_done(number, result)

        if ray_address:
            _by_ray(jobs, ray_address, done)
        elif workers > 1 and len(jobs) > 1:
            _by_processes(jobs, min(workers, len(jobs)), done)
        else:
            for number, job in enumerate(jobs):
                done(number, evaluate(job, on_time))
    return [results[number] for number in range(len(jobs))]


def _by_processes(jobs: Sequence[Job], workers: int, done: OnDone) -> None:
    # Spawned, never forked: torch and OpenCV have threads that a fork would not take along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(evaluate, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result())
        except BrokenProcessPool as error:
            raise EvalError(
                "a process of the evaluation died (out of memory?): try fewer --jobs"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _by_ray(jobs: Sequence[Job], address: str, done: OnDone) -> None:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise EvalError(RAY_MISSING) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(log_to_driver=False, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise EvalError(f"--ray {address}: {error}") from error
    try:
        task = ray.remote(evaluate)
        numbers = {
            task.options(num_cpus=job.threads).remote(job): number
            for number, job in enumerate(jobs)
        }
        waiting = list(numbers)
        while waiting:
            ready, waiting = ray.wait(waiting)
            for reference in ready:
                done(numbers[reference], ray.get(reference))
    except ray.exceptions.RayError as error:
        raise EvalError(f"--ray {address}: a task failed: {error}") from error
    finally:
        ray.shutdown()


@contextmanager
def _bar(
    lengths: Sequence[float], progress: bool
) -> Iterator[tuple[OnDone, Callable[[float], None]]]:
    """One bar over the seconds of all recordings: (on_done, on_time of the one that runs)."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s{postfix}, {elapsed} passed"
    with tqdm(
        desc="Evaluating", total=sum(lengths), bar_format=layout, disable=not progress
    ) as bar:
        finished = 0.0
        count = 0

        def on_time(seconds: float) -> None:
            bar.update(min(finished + seconds, sum(lengths)) - bar.n)

        def on_done(number: int, result: Evaluated) -> None:
            nonlocal finished, count
            finished += lengths[number]
            count += 1
            bar.set_postfix_str(f" {count} of {len(lengths)} recordings", refresh=False)
            bar.update(finished - bar.n)

        yield on_done, on_time
