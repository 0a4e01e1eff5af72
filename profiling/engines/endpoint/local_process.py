"""The server's processes on this machine, and the GPU that they compute on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil

from profiling.engines.endpoint.client import is_loopback
from profiling.machine.machine import open_nvml

CPU, ELSEWHERE = "cpu", "elsewhere"
# Programs that listen for a server which runs elsewhere: what they use says nothing of it.
FORWARDERS = frozenset(
    {
        *("caddy", "docker-proxy", "envoy", "haproxy", "kubectl", "nginx", "pasta", "rootlessport"),
        *("slirp4netns", "socat", "ssh", "sshd"),
    }
)
NOT_LOOPBACK = "the server is not on this machine's loopback address"
NOT_FOUND = (
    "no process of the server is visible: it belongs to another user, or runs in a container"
)
WHOLE_DEVICE = "counts the whole device, whatever else runs on it beside the server"


@dataclass(frozen=True, kw_only=True)
class ServerProcess:
    """Where the server runs. `reason` says why no device is charged, or what charging one means."""

    pids: tuple[int, ...]
    device: str
    gpu_uuid: str | None
    reason: str


def find_server(url: str) -> ServerProcess:
    """The processes that serve an address, and their device."""
    if not is_loopback(url):
        return _unknown(NOT_LOOPBACK)
    parts = urlsplit(url)
    listening = _listening(parts.port or (443 if parts.scheme == "https" else 80))
    if not listening:
        return _unknown(NOT_FOUND)
    forwarder = next((p.name() for p in listening if p.name() in FORWARDERS), None)
    if forwarder is not None:
        return _unknown(f"the address is forwarded by {forwarder} to a server that is not visible")
    pids = _with_children(listening)
    with open_nvml() as nvml:
        return place(pids, [] if nvml is None else list(_computing(nvml)))


@dataclass(frozen=True, kw_only=True)
class Computing:
    """A board and the processes that compute on it."""

    uuid: str
    pids: frozenset[int]


def place(pids: Sequence[int], boards: Sequence[Computing]) -> ServerProcess:
    """The device of processes, from what computes on the machine's boards."""
    own = [board.uuid for board in boards if board.pids & set(pids)]
    if len(own) == 1:
        return ServerProcess(
            pids=tuple(pids), device=f"gpu {own[0]}", gpu_uuid=own[0], reason=WHOLE_DEVICE
        )
    if own:
        reason = f"the server computes on {len(own)} GPUs, and one is charged at most"
        return ServerProcess(pids=tuple(pids), device=ELSEWHERE, gpu_uuid=None, reason=reason)
    hidden = {pid for board in boards for pid in board.pids if not psutil.pid_exists(pid)}
    if hidden:
        reason = "processes of a container compute on a GPU: the server may be one of them"
        return ServerProcess(pids=tuple(pids), device=ELSEWHERE, gpu_uuid=None, reason=reason)
    return ServerProcess(pids=tuple(pids), device=CPU, gpu_uuid=None, reason=WHOLE_DEVICE)


def _unknown(reason: str) -> ServerProcess:
    return ServerProcess(pids=(), device=ELSEWHERE, gpu_uuid=None, reason=reason)


def _listening(port: int) -> list[psutil.Process]:
    """The visible processes that listen on a port, this one apart."""
    found = {}
    for process in psutil.process_iter():
        try:
            connections = process.net_connections(kind="tcp")
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        for one in connections:
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
                found[process.pid] = process
    found.pop(os.getpid(), None)
    return list(found.values())


def _with_children(processes: Sequence[psutil.Process]) -> list[int]:
    """The engine of a server is often a child of the process that listens."""
    pids = {process.pid for process in processes}
    for process in processes:
        pids.update(child.pid for child in process.children(recursive=True))
    return sorted(pids)


def _computing(nvml: Any) -> Iterator[Computing]:
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        yield Computing(
            uuid=uuid.decode() if isinstance(uuid, bytes) else uuid,
            pids=frozenset(process.pid for process in running),
        )


class ServerMemory:
    """GPU memory of the server's processes, as NVML counts it by process."""

    source = "NVML, memory of the server's processes on the board, read before and after the passes"
    reserved_source = source

    def __init__(self, *, uuid: str, pids: Collection[int]) -> None:
        self._uuid, self._pids = uuid, frozenset(pids)
        self._highest = 0

    def reset(self) -> None:
        self._highest = self.allocated_bytes()

    def allocated_bytes(self) -> int:
        with open_nvml() as nvml:
            return 0 if nvml is None else read_memory(nvml, self._uuid, self._pids)

    def peak_bytes(self) -> int:
        self._highest = max(self._highest, self.allocated_bytes())
        return self._highest

    def peak_reserved_bytes(self) -> int:
        return self.peak_bytes()


def read_memory(nvml: Any, uuid: str, pids: Collection[int]) -> int:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return sum(process.usedGpuMemory or 0 for process in running if process.pid in pids)
