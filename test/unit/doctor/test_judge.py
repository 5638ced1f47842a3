"""Judging samples: what a live graph can show and a recording cannot, and the machine's part."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.doctor_cases import START, copy_checkpoint, header, settings

from pi0_ros.checkpoint.formats import read_checkpoint
from pi0_ros.doctor import host as doctor_host
from pi0_ros.doctor.findings import FAIL, PASS, WARN, Finding, findings_json, format_table, passed
from pi0_ros.doctor.graph import judge_graph
from pi0_ros.doctor.host import free_memory, judge_host, weight_bytes
from pi0_ros.doctor.images import judge_images
from pi0_ros.doctor.operator import judge_operator
from pi0_ros.doctor.policy import judge_policy
from pi0_ros.doctor.samples import Collected, Collector, Endpoint, ImageSample
from pi0_ros.doctor.streams import judge_streams

SECOND = 10**9


def images_of(
    rate: float = 20.0,
    seconds: float = 2.0,
    age: float = 0.0,
    encoding: str = "rgb8",
    digests: Sequence[int] | None = None,
    spread: int = 200,
    stamps: bool = True,
) -> list[ImageSample]:
    samples = []
    for k in range(round(rate * seconds)):
        at = START + round(k / rate * SECOND)
        digest = k if digests is None else digests[k % len(digests)]
        stamp = at - round(age * SECOND) if stamps else START
        samples.append(ImageSample(at, at, stamp, encoding, (64, 48), digest, spread, ""))
    return samples


def heard(live: bool = True, seconds: float = 2.0, **changes: Any) -> Collected:
    images = {"front": images_of(), "wrist": images_of()}
    fields = {"start": START, "end": START + round(seconds * SECOND), "images": images}
    return Collected(live, **{**fields, **changes})


def lines(findings: list[Finding], level: str) -> list[str]:
    return [f"{f.check}: {f.text}" for f in findings if f.level == level]


def test_a_camera_that_stops() -> None:
    images = {"front": images_of(seconds=1.0), "wrist": images_of()}
    (failed,) = lines(judge_streams(settings(), heard(images=images)), FAIL)
    assert failed.startswith("rate: camera front: 20.0 Hz")
    assert failed.endswith("nothing in the last 1.1 s")
    # A recording may simply end so.
    assert not lines(judge_streams(settings(), heard(live=False, images=images)), FAIL)


def test_a_camera_slower_than_the_ticks() -> None:
    images = {"front": images_of(rate=6.0), "wrist": images_of()}
    warned = lines(judge_streams(settings(), heard(images=images)), WARN)
    assert any("camera front: 6.0 Hz" in line and "ticks at 10 Hz" in line for line in warned)


def test_large_images_that_are_lost_name_the_profile_and_who_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    topic = "/front/image_raw"
    publishers = {topic: (Endpoint("/cam", "sensor_msgs/msg/Image", "volatile"),)}
    types = {topic: ("sensor_msgs/msg/Image",)}
    for size, samples, named in (
        ((640, 480), images_of(rate=6.0), True),
        ((64, 48), images_of(rate=6.0), False),
        ((64, 48), [], True),  # nothing at all comes of a publisher that is there
    ):
        images = {"front": [replace(s, size=size) for s in samples], "wrist": images_of()}
        found = judge_streams(settings(), heard(images=images, publishers=publishers, types=types))
        advice = " ".join(f.advice for f in found if "camera front" in f.text)
        assert ("start /cam with FASTRTPS_DEFAULT_PROFILES_FILE" in advice) == named, found
        assert not named or "config/fastdds.xml" in advice


def test_gaps_longer_than_the_allowed_age() -> None:
    kept = [s for k, s in enumerate(images_of()) if not 10 <= k < 18]
    warned = lines(
        judge_streams(settings(), heard(images={"front": kept, "wrist": images_of()})), WARN
    )
    assert any("longest gap 0.450 s, allowed age 0.2 s" in line for line in warned)


@pytest.mark.parametrize(
    ("age", "level", "text"),
    [
        (0.05, PASS, "camera front: 50.0 ms old on arrival"),
        (0.3, FAIL, "camera front: 300.0 ms old on arrival, p95 300.0 ms; allowed are 0.2 s"),
        (-0.5, FAIL, "camera front: stamped 500.0 ms in the future"),
        (-0.05, PASS, "camera front: -50.0 ms old on arrival"),
    ],
)
def test_ages(age: float, level: str, text: str) -> None:
    images = {"front": images_of(age=age), "wrist": images_of(age=age)}
    found = lines(judge_streams(settings(), heard(images=images)), level)
    assert any(line.startswith(f"age: {text}") for line in found), found


def test_the_cameras_latency_counts_as_age_and_against_skew() -> None:
    images = {"front": images_of(age=0.0), "wrist": images_of(age=0.15)}
    found = judge_streams(settings(camera__front__latency=0.15), heard(images=images))
    skew = next(line for line in lines(found, PASS) if line.startswith("skew"))
    assert "0.0 ms apart, at most 0.0 ms" in skew
    assert any("camera front: 150.0 ms old" in line for line in lines(found, PASS))


def test_stamps_that_stand_still() -> None:
    images = {"front": images_of(stamps=False), "wrist": images_of()}
    failed = lines(judge_streams(settings(), heard(images=images)), FAIL)
    assert any(line.startswith("age: camera front: every stamp is") for line in failed)


def clock(values: Sequence[float]) -> list[tuple[int, int]]:
    return [(START + k * 10_000_000, round(v * SECOND)) for k, v in enumerate(values)]


@pytest.mark.parametrize(
    ("sim", "values", "level", "text"),
    [
        (True, [], FAIL, "nobody publishes /clock"),
        (True, [5.0, 5.0, 5.0], FAIL, "/clock stands still at 5.000 s"),
        (True, [5.0, 6.0, 4.0], WARN, "/clock jumped back 1 times"),
        (True, [5.0, 5.005, 5.01], PASS, "/clock runs at 0.50 of wall time"),
        (False, [], PASS, "wall time; no /clock"),
        (False, [5.0, 5.1], WARN, "the stamps are of wall time"),
    ],
)
def test_clocks(sim: bool, values: list[float], level: str, text: str) -> None:
    found = judge_graph(settings(use_sim_time=sim), heard(clock=clock(values)))
    assert any(line.startswith("clock") and text in line for line in lines(found, level))


def test_two_types_on_one_topic_are_a_warning() -> None:
    image, other = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
    types = {"/front/image_raw": (image, other), "/wrist/image_raw": (image,)}
    found = judge_graph(settings(), heard(types=types))
    assert any("others publish sensor_msgs/msg/CompressedImage" in t for t in lines(found, WARN))
    assert [line for line in lines(found, FAIL) if "front" in line] == []


def test_messages_that_cannot_be_read() -> None:
    collected = heard()
    collected.malformed["/joint_states"] = Counter({"3 bytes": 2})
    failed = lines(judge_graph(settings(), collected), FAIL)
    assert "topic: /joint_states: 2 messages cannot be read, such as 3 bytes" in failed


def test_frozen_cameras() -> None:
    def found(digests: Sequence[int], frames: int = 30) -> list[Finding]:
        images = {"front": images_of(digests=digests), "wrist": images_of()}
        return judge_images(settings(frozen_frames=frames), heard(images=images))

    assert any("40 equal images in a row" in line for line in lines(found([7]), FAIL))
    assert not lines(found([7], frames=0), FAIL)
    assert any("all that came" in line for line in lines(found([7], frames=0), WARN))
    assert not lines(found([1, 1, 2]), FAIL)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "16UC1"}, "16 bit grey"),
        ({"encoding": "mono8"}, "mono8: grey"),
        ({"encoding": "16UC1; png compressed "}, "16 bit grey"),
        ({"encoding": "8UC3"}, "8UC3: names no order of the colours"),
        ({"spread": 1}, "its images are of one colour"),
    ],
)
def test_images_without_colour(changes: dict[str, Any], text: str) -> None:
    images = {"front": images_of(**changes), "wrist": images_of()}
    assert any(text in t for t in lines(judge_images(settings(), heard(images=images)), WARN))


def mosaic(rgb: np.ndarray) -> np.ndarray:
    """[H, W] of RGGB."""
    grey = rgb[..., 1].copy()
    grey[::2, ::2], grey[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
    return grey


def brightness(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize(
    ("form", "convert", "level", "text"),
    [
        ("rgb8; jpeg compressed bgr8", lambda rgb: rgb[..., ::-1], PASS, "64 x 48"),
        ("jpeg", lambda rgb: rgb[..., ::-1], PASS, "64 x 48"),
        ("bayer_rggb8; jpeg compressed ", mosaic, FAIL, "its source bayer_rggb8 has colour"),
        ("yuv422_yuy2; jpeg compressed mono8", brightness, FAIL, "its source yuv422_yuy2 has"),
        ("8UC3; jpeg compressed bgr8", brightness, FAIL, "its source 8UC3 has colour"),
        ("jpeg", brightness, WARN, "every image is grey"),
        ("mono8; jpeg compressed mono8", brightness, WARN, "every image is grey"),
        ("rgb8; jpeg compressed rgb8", lambda rgb: rgb[..., ::-1], WARN, "red and blue swapped"),
    ],
)
def test_colours_that_a_transport_takes_or_swaps(
    form: str, convert: Callable[[np.ndarray], np.ndarray], level: str, text: str
) -> None:
    interface = settings(image_transport="compressed", cameras=["front"])
    collector = Collector(interface, live=True)
    rng = np.random.default_rng(0)
    for k in range(20):
        rgb = rng.integers(0, 60, (48, 64, 3), np.uint8)
        rgb[..., 0] += 150
        data = cv2.imencode(".jpg", np.ascontiguousarray(convert(rgb)))[1]
        message = SimpleNamespace(header=header(START + k * SECOND), format=form, data=data)
        collector.puts["/front/image_raw/compressed"](message, START + k * SECOND, None)
    found = [f for f in judge_images(interface, collector.collected) if f.check == "image"]
    assert [f.level for f in found] == [level]
    assert text in found[0].text


def test_a_dark_image_is_not_taken_for_a_grey_camera() -> None:
    samples = [replace(s, grey=True, spread=0) for s in images_of(encoding="bayer_rggb8; jpeg")]
    images = {"front": samples, "wrist": images_of()}
    assert not lines(judge_images(settings(), heard(images=images)), FAIL)


def test_a_camera_that_changes() -> None:
    images = {"front": images_of()[:20] + images_of(encoding="bgr8")[20:], "wrist": images_of()}
    assert any(
        "rgb8 and bgr8: it changes" in t
        for t in lines(judge_images(settings(), heard(images=images)), WARN)
    )


def test_instructions() -> None:
    def found(parameter: str, texts: Sequence[str], level: str) -> list[str]:
        collected = heard(instructions=[(START, text) for text in texts])
        return lines(judge_operator(settings(instruction=parameter), collected), level)

    assert "instruction: 'pick' by parameter" in found("pick", [], PASS)
    assert "instruction: 'put' on /instruction, 2 different ones" in found(
        "pick", ["a", "put"], PASS
    )
    assert "instruction: empty" in found("pick", ["  "], FAIL)
    assert any("10000 characters" in line for line in found("", ["x" * 10_000], WARN))


def test_stops_and_deadman() -> None:
    def found(level: str, **changes: Any) -> list[str]:
        return lines(judge_operator(settings(deadman_timeout=0.5), heard(**changes)), level)

    assert any("/emergency_stop is true" in t for t in found(FAIL, stops=[(START, True)]))
    assert not any("is true" in t for t in found(FAIL, stops=[(START, True), (START, False)]))
    kind = "std_msgs/msg/Bool"
    two = tuple(Endpoint(name, kind, "volatile") for name in ("/button", "/curtain"))
    heard_both = heard(stops=[(START, True), (START, False)], publishers={"/emergency_stop": two})
    (line,) = lines(judge_operator(settings(instruction="x"), heard_both), FAIL)
    assert "one of /button, /curtain says true on /emergency_stop" in line
    beats = [START + k * SECOND // 5 for k in range(10)]
    assert any("10 heartbeats, at most 0.20 s" in line for line in found(PASS, beats=beats))
    assert any("1.20 s without a heartbeat" in line for line in found(FAIL, beats=beats[:5]))
    assert any("no heartbeat" in line for line in found(FAIL))


def test_a_subscriber_that_gets_nothing() -> None:
    topic = "/pi0/joint_trajectory"
    kind = "trajectory_msgs/msg/JointTrajectory"
    deaf = (Endpoint("/arm_controller", kind, "transient_local"),)
    found = judge_graph(settings(), heard(subscribers={topic: deaf}))
    assert any("/arm_controller subscribes transient local" in line for line in lines(found, FAIL))


def test_the_machine(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(copy_checkpoint(demo_checkpoint, tmp_path / "checkpoint"))
    whole = weight_bytes(checkpoint, torch.float32)
    assert whole == 2 * weight_bytes(checkpoint, torch.bfloat16)
    assert whole == pytest.approx((checkpoint.path / "model.safetensors").stat().st_size, rel=0.02)
    assert free_memory(torch.device("cpu")) > 0

    def found(level: str, **changes: Any) -> list[str]:
        return lines(judge_host(settings(**changes).parameters, checkpoint), level)

    assert any("2.8 MB as float32; cpu has" in line for line in found(PASS))
    for name in ("npu:0", "cuda:99"):
        assert any(line.startswith(f"device: device '{name}'") for line in found(FAIL, device=name))
    assert any("auto: neither an NPU nor" in line for line in found(WARN, device="auto"))
    monkeypatch.setattr(doctor_host, "free_memory", lambda device: whole - 1)
    assert any(line.startswith("memory") for line in found(FAIL))
    monkeypatch.setattr(doctor_host, "free_memory", lambda device: round(whole * 1.1))
    assert any(line.startswith("memory") for line in found(WARN))


def test_room_for_dds(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(level: str) -> list[str]:
        findings = judge_host(settings().parameters, None)
        return [text for text in lines(findings, level) if text.startswith("shared memory")]

    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    free = shutil.disk_usage(doctor_host.SHARED_MEMORY).free
    monkeypatch.setattr(doctor_host, "SHARED_BYTES", free // 2)
    assert found(PASS) and not found(WARN)
    monkeypatch.setattr(doctor_host, "SHARED_BYTES", 2 * free + 1)
    (warning,) = found(WARN)
    assert "SIGBUS" in warning and not found(PASS)
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert not found(WARN) and not found(PASS)


def test_the_graph_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(level: str, cache: Path) -> list[str]:
        parameters = settings(graph_cache=str(cache)).parameters
        return [t for t in lines(judge_host(parameters, None), level) if t.startswith("cache")]

    assert found(PASS, tmp_path / "new" / "cache")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    assert found(FAIL, tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert found(FAIL, tmp_path)


def test_preflight_lines_and_a_checkpoint_that_is_not_there(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    findings, checkpoint = judge_policy(settings(checkpoint=str(tmp_path)).parameters)
    assert checkpoint is None
    assert "config.json is missing" in lines(findings, FAIL)[0]
    copy = copy_checkpoint(demo_checkpoint, tmp_path / "checkpoint")
    (copy / "info.json").write_text(
        '{"features": {"observation.state": {"names": ["pan", "lift", "elbow", "a", "b", "c"]}}}'
    )
    findings, _ = judge_policy(settings(checkpoint=str(copy), cameras=["front"]).parameters)
    assert passed(findings)
    warned = lines(findings, WARN)
    assert any("cameras ['wrist'] of the checkpoint are left out" in line for line in warned)
    assert any("pan = pan, lift = lift, elbow = elbow, flex = a" in line for line in warned)


def test_limits_that_are_legal_and_unlikely(demo_checkpoint: Path, tmp_path: Path) -> None:
    """Degrees, millimetres and mimic joints are warnings; what configure does with them is told."""
    one = '<joint name="{}" type="{}"><limit lower="-3" upper="{}" velocity="2"/>{}</joint>'
    rows = [
        ("pan", "revolute", 180, ""),
        ("lift", "prismatic", 400, ""),
        ("grip", "revolute", 3, '<mimic joint="lift"/>'),
        *((name, "revolute", 3, "") for name in ("elbow", "flex", "roll")),
    ]
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(f"<robot>{''.join(one.format(*row) for row in rows)}</robot>")
    joints = ["pan", "lift", "elbow", "flex", "roll", "grip"]
    given = {"checkpoint": str(demo_checkpoint), "urdf": str(urdf), "joints": joints}

    def found(**changes: Any) -> list[Finding]:
        findings, _ = judge_policy(settings(**given, **changes).parameters)
        assert not lines(findings, FAIL)
        return [finding for finding in findings if finding.check == "limits"]

    mimic, turns, span = found()
    assert {mimic.level, turns.level, span.level} == {WARN}
    assert "joint grip follows lift (<mimic>)" in mimic.text
    assert "joint pan: position limits -3 to 180 rad are 29.1 turns: degrees?" in turns.text
    assert "joint lift: 403 m between its position limits: millimetres?" in span.text
    assert all("configure refuses them" in finding.advice for finding in (turns, span))
    assert not any(finding.advice for finding in found(allow_wide_limits=True))


def test_the_table_and_its_json() -> None:
    findings = [Finding(PASS, "a", "fine"), Finding(FAIL, "topic", "word " * 40, "do this")]
    table = format_table(findings, width=60).splitlines()
    assert table[0] == "PASS  a      fine"
    assert all(len(line) <= 60 for line in table)
    assert table[-2] == "             -> do this"
    assert table[-1] == "FAIL: 1 PASS, 0 WARN, 1 FAIL"
    coloured = format_table(findings, width=60, colour=True)
    assert coloured.startswith("\033[32mPASS\033[0m  a      fine\n\033[31;1mFAIL\033[0m  topic")
    document = findings_json(findings, "bag")
    assert (document["passed"], document["source"]) == (False, "bag")
    assert document["counts"] == {"PASS": 1, "WARN": 0, "FAIL": 1}
    assert document["findings"][0] == {"level": "PASS", "check": "a", "text": "fine", "advice": ""}
