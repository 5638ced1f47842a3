from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.waiting import PATIENCE

from pi0_ros.node import memory as memory_module
from pi0_ros.node.memory import memory, release

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


class Accelerator:
    """Stands in for torch.npu; takes device numbers only."""

    def __init__(self, initialized: bool = True, broken: bool = False) -> None:
        self.initialized, self.broken, self.emptied = initialized, broken, 0

    def is_initialized(self) -> bool:
        return self.initialized

    def current_device(self) -> int:
        return 1

    def mem_get_info(self, device: int) -> tuple[int, int]:
        if self.broken:
            raise RuntimeError("the device is lost")
        return 1000 + device, 2000

    def memory_allocated(self, device: int) -> int:
        return 300 + device

    def memory_reserved(self, device: int) -> int:
        return 400 + device

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    found = Accelerator()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(npu=found))
    return found


@linux
def test_rss_follows_what_is_in_use_and_release_gives_it_back() -> None:
    """Small blocks: glibc keeps them for later unless it is told to trim."""
    release()  # what earlier tests left would be used again
    before = memory(None)["process_rss"]
    blocks = [bytes(900) for _ in range(100_000)]
    assert memory(None)["process_rss"] - before > 80e6
    last = blocks[-1]
    blocks.clear()
    release()
    assert memory(None)["process_rss"] - before < 40e6
    assert len(last) == 900


@linux
def test_release_breaks_cycles() -> None:
    before = memory(None)["process_rss"]
    cycle: list = [bytearray(200_000_000)]
    cycle[0][::4096] = bytes(len(cycle[0][::4096]))  # touched, so that it is resident
    cycle.append(cycle)
    assert memory(None)["process_rss"] - before > 150e6
    del cycle
    release()
    assert memory(None)["process_rss"] - before < 50e6


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_cpu_has_no_memory_of_its_own(npu: Accelerator, device: str | None) -> None:
    assert set(memory(device)) <= {"process_rss"}


@pytest.mark.parametrize(("device", "index"), [("npu:0", 0), ("npu:3", 3), ("npu", 1)])
def test_device_memory(npu: Accelerator, device: str, index: int) -> None:
    figures = memory(device)
    figures.pop("process_rss", None)
    assert figures == {
        "device_allocated": 300 + index,
        "device_reserved": 400 + index,
        "device_free": 1000 + index,
        "device_total": 2000,
    }


def test_an_unused_device_is_left_alone(npu: Accelerator) -> None:
    npu.initialized, npu.broken = False, True
    assert set(memory("npu:0")) <= {"process_rss"}
    release()
    assert npu.emptied == 0


def test_a_lost_device_does_not_end_the_report(npu: Accelerator) -> None:
    npu.broken = True
    assert set(memory("npu:0")) <= {"process_rss"}


def test_a_device_of_another_kind_is_not_asked(npu: Accelerator) -> None:
    assert set(memory("cuda:0")) <= {"process_rss"}


def test_release_empties_the_devices_cache(npu: Accelerator) -> None:
    release()
    assert npu.emptied == 1


def test_release_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(CDLL=lambda name: SimpleNamespace())
    monkeypatch.setattr(memory_module, "ctypes", library)
    release()


def test_torch_is_never_imported() -> None:
    code = (
        "import sys; from pi0_ros.node.memory import memory, release;"
        " memory('cuda:0'); memory('npu:0'); release(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
