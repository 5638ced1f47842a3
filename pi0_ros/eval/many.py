"""Many recordings evaluated one after another, by processes, or by Ray, with the same results."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pi0_ros import console
from pi0_ros.bags.bag import BagError, open_bag
from pi0_ros.datasets.layout import open_data_set
from pi0_ros.errors import UserError
from pi0_ros.eval.evaluate import Evaluated, Job, evaluate

LOCAL = "local"
"""Address that starts a Ray on this machine's loopback, for as long as the evaluation runs."""


def evaluate_all(jobs: Sequence[Job], workers: int = 1, ray_address: str = "") -> list[Evaluated]:
    """Evaluates every recording; results are in the order of the jobs.

    Args:
        workers: processes, each of which loads the policy once; with 1 it happens in this one.
        ray_address: of a Ray cluster, `auto`, or `local`; "" for none. Its machines find the
            recordings, the checkpoint and this package under the same paths.

    Raises:
        UserError: a process died, Ray is not installed, or there is none at the address.
    """
    lengths = [_seconds_of(job) for job in jobs]
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s{postfix}, {elapsed} passed"
    with console.progress(desc="Evaluating", total=sum(lengths), bar_format=layout) as bar:
        results: dict[int, Evaluated] = {}

        def show(seconds: float) -> None:
            """Of the recording that runs in this process."""
            done = sum(lengths[number] for number in results)
            bar.update(min(done + seconds, bar.total) - bar.n)

        if ray_address:
            found = _by_ray(jobs, ray_address)
        elif workers > 1 and len(jobs) > 1:
            found = _by_processes(jobs, min(workers, len(jobs)))
        else:
            found = ((number, evaluate(job, show)) for number, job in enumerate(jobs))
        for number, result in found:
            results[number] = result
            bar.set_postfix_str(f" {len(results)} of {len(jobs)} recordings", refresh=False)
            show(0.0)
    return [results[number] for number in range(len(jobs))]


def _by_processes(jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Evaluated]]:
    # Spawned, never forked: torch and OpenCV have threads that a fork would not take along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(evaluate, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process of the evaluation died (out of memory?): try fewer --jobs"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _by_ray(jobs: Sequence[Job], address: str) -> Iterator[tuple[int, Evaluated]]:
    console.require("ray")
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(log_to_driver=False, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--ray {address}: {error}") from error
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
                yield numbers[reference], ray.get(reference)
    except ray.exceptions.RayError as error:
        raise UserError(f"--ray {address}: a task failed: {error}") from error
    finally:
        ray.shutdown()


def _seconds_of(job: Job) -> float:
    """Length of a recording, for the progress bar; 0 where it cannot be opened."""
    try:
        if job.episode is not None:
            data = open_data_set(job.bag)
            return data.episodes[job.episode].length / data.fps
        opened = open_bag(job.bag)
    except BagError:
        return 0.0
    return (opened.end - opened.start) / 1e9
