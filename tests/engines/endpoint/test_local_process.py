"""The server's processes are found by its port, and its GPU by what computes on the boards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from profiling.engines.endpoint import local_process
from profiling.engines.endpoint.local_process import (
    CPU,
    ELSEWHERE,
    FORWARDERS,
    NOT_FOUND,
    NOT_LOOPBACK,
    WHOLE_DEVICE,
    Computing,
    ServerMemory,
    find_server,
    place,
    read_memory,
)
from profiling.machine import machine

# Listens, and has a child that would be the engine.
PARENT = """
import socket, subprocess, sys, time
listening = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(listening.getsockname()[1], child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[int, int, int]]:
    """Port, process and child of a server."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port, child = (int(number) for number in process.stdout.readline().split())
    yield port, process.pid, child
    process.communicate(timeout=30)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_driver_present", lambda: False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_loopback_is_charged(listening: tuple[int, int, int], host: str) -> None:
    port, pid, child = listening
    found = find_server(f"http://{host}:{port}/v1")
    assert set(found.pids) == {pid, child}
    assert (found.device, found.gpu_uuid, found.reason) == (CPU, None, WHOLE_DEVICE)


def test_a_server_elsewhere_is_not() -> None:
    found = find_server("http://example.org/v1")
    assert (found.pids, found.device, found.reason) == ((), ELSEWHERE, NOT_LOOPBACK)


def test_a_port_where_nobody_listens() -> None:
    assert find_server("http://127.0.0.1:1/v1").reason == NOT_FOUND


def test_a_forwarded_port_says_nothing_of_the_server(
    listening: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"ssh", "docker-proxy"} <= FORWARDERS
    name = os.path.basename(os.path.realpath(sys.executable))
    monkeypatch.setattr(local_process, "FORWARDERS", frozenset({name, "python", "python3"}))
    found = find_server(f"http://127.0.0.1:{listening[0]}/v1")
    assert found.pids == () and "forwarded by " in found.reason


# Boards

OWN = (os.getpid(), os.getppid())
NOBODY = 2**22 + 1


def board(uuid: str, *pids: int) -> Computing:
    return Computing(uuid=uuid, pids=frozenset(pids))


def test_the_board_that_a_server_computes_on() -> None:
    found = place(OWN, [board("GPU-0", 1), board("GPU-1", OWN[1])])
    assert (found.gpu_uuid, found.device) == ("GPU-1", "gpu GPU-1")
    assert found.pids == OWN and "whole device" in found.reason


def test_several_boards_are_not_charged() -> None:
    found = place(OWN, [board("GPU-0", OWN[0]), board("GPU-1", OWN[1])])
    assert (found.gpu_uuid, found.device) == (None, ELSEWHERE)
    assert found.pids == OWN and "2 GPUs" in found.reason


def test_boards_of_others_are_not_charged() -> None:
    found = place(OWN, [board("GPU-0", 1), board("GPU-1")])
    assert (found.gpu_uuid, found.device) == (None, CPU)


def test_processes_that_cannot_be_seen_may_be_the_server() -> None:
    found = place(OWN, [board("GPU-0", NOBODY)])
    assert (found.gpu_uuid, found.device) == (None, ELSEWHERE)
    assert "container" in found.reason


class Nvml:
    """One board whose processes hold so many bytes."""

    class NVMLError(Exception):
        pass

    def __init__(self, held: dict[int, int | None]) -> None:
        self.held = held

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return "GPU-0"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> bytes:
        return handle.encode()

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        assert handle == "GPU-0"
        return [SimpleNamespace(pid=p, usedGpuMemory=n) for p, n in self.held.items()]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    made = Nvml({})
    monkeypatch.setattr(machine, "nvidia_driver_present", lambda: True)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_a_server_is_found_on_its_board(listening: tuple[int, int, int], nvml: Nvml) -> None:
    port, _, child = listening
    nvml.held = {child: 100, 1: 7}
    assert find_server(f"http://127.0.0.1:{port}/v1").gpu_uuid == "GPU-0"


def test_memory_of_the_server_alone_is_counted(nvml: Nvml) -> None:
    nvml.held = {5: 100, 6: 30, 7: 1000, 8: None}
    memory = ServerMemory(uuid="GPU-0", pids=(5, 6, 8))
    memory.reset()
    assert memory.allocated_bytes() == 130
    nvml.held[6] = 50
    assert memory.peak_bytes() == 150
    nvml.held[6] = 10
    assert memory.peak_bytes() == memory.peak_reserved_bytes() == 150
    memory.reset()
    assert memory.peak_bytes() == 110
    assert read_memory(nvml, "GPU-0", {7}) == 1000


def test_looking_for_a_server_leaves_no_thread(listening: tuple[int, int, int]) -> None:
    before = threading.active_count()
    find_server(f"http://127.0.0.1:{listening[0]}/v1")
    assert threading.active_count() == before
