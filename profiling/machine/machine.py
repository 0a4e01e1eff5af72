"""Describes this machine: processor, memory, GPUs, versions, commit, available devices."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profiling.errors import ConfigError
from profiling.machine.amd import amd_driver, visible_amd_gpus
from profiling.machine.gpus import (
    Gpu,
    as_text,
    hides_all,
    list_uuids,
    match_uuid,
    visible_gpus,
)

PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "codecarbon",
    "flash-attn",
    "fvcore",
    "hydra-core",
    "jiwer",
    "numpy",
    "nvidia-ml-py",
    "omegaconf",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "pandas",
    "pillow",
    "safetensors",
    "tokenizers",
    "torch",
    "torchao",
    "transformers",
    "triton",
)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_NO_JOULES_OF_APPLE = (
    "device=mps: the joules of an Apple GPU are shown to root only (powermetrics), so there are "
    "none; latency, memory and quality are measured"
)
_NO_JOULES_OF_AMD = (
    "ROCm: joules are read through NVML, which knows boards of NVIDIA only, so an AMD GPU has "
    "none; latency, memory and quality are measured"
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    cpu_model: str
    cpu_count: int
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    gpu_driver: str | None
    operating_system: str
    kernel: str
    hostname: str
    python: str

    def identity(self) -> dict[str, Any]:
        """What two measurements have to share to come from the same kind of machine.

        Each GPU model counts once: a sweep distributed over equal GPUs of one machine by
        CUDA_VISIBLE_DEVICES is still one sweep.
        """
        return {
            "cpu_model": self.cpu_model,
            "gpu_models": sorted({gpu.name for gpu in self.gpus}),
            "gpu_driver": self.gpu_driver,
            "operating_system": self.operating_system,
        }

    def to_dict(self) -> dict[str, Any]:
        """The machine as plain JSON values, for a record."""
        return asdict(self) | {"gpus": [asdict(gpu) for gpu in self.gpus]}


def describe_machine() -> Machine:
    gpus, driver = (visible_gpus_here(), amd_driver()) if torch_has_rocm() else _visible_gpus()
    return Machine(
        cpu_model=_cpu_model(),
        cpu_count=usable_cores(),
        memory_bytes=_memory_bytes(),
        gpus=gpus,
        gpu_driver=driver,
        operating_system=_operating_system(),
        kernel=platform.release(),
        hostname=socket.gethostname(),
        python=platform.python_version(),
    )


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a measurement."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(root: Path) -> dict[str, Any] | None:
    """Commit of the checkout at `root` and whether tracked files differ from it; None elsewhere."""
    # A copy of the project inside another repository must not report that repository's commit.
    if not (root / ".git").exists():
        return None
    lines = _git_status(root)
    if lines is None:
        return None
    oids = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if oids in ([], ["(initial)"]):
        return None
    return {"commit": oids[0], "dirty": any(not line.startswith("#") for line in lines)}


def _git_status(root: Path) -> list[str] | None:
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch"]
    # Inside a git hook these variables point to the repository of the hook.
    inherited = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            [*command, "--untracked-files=no"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None


# Devices


def available_devices() -> list[str]:
    """The devices that a point may use, without importing torch: cpu, every cuda:N, mps.

    A GPU of AMD is called cuda:N too, by a torch that is built with ROCm.
    """
    gpus = [f"cuda:{gpu.index}" for gpu in visible_gpus_here()]
    return ["cpu", *gpus, *(["mps"] if torch_has_mps() else [])]


def visible_gpus_here() -> tuple[Gpu, ...]:
    """The GPUs that the installed torch can use; none where it is built for the CPU."""
    if torch_has_cuda():
        return _visible_gpus()[0]
    return visible_amd_gpus(os.environ) if torch_has_rocm() else ()


def gpu_uuid(device: str) -> str | None:
    """The UUID by which NVML knows a device; None where it is no GPU of NVIDIA."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or torch_has_rocm():
        return None
    return next((g.uuid for g in _visible_gpus()[0] if g.index == int(number or 0)), None)


def find_uuid(shown: str) -> str | None:
    """The UUID by which NVML knows the GPU that torch shows this UUID of."""
    if torch_has_rocm():
        return None
    return match_uuid(shown, _visible_gpus()[0]) or f"GPU-{shown}"


def why_no_joules(device: str) -> str | None:
    """Why no joules of a kind of device can be read, whatever the machine; None where they can."""
    if device.startswith("mps"):
        return _NO_JOULES_OF_APPLE
    if device.startswith("cuda") and torch_has_rocm():
        return _NO_JOULES_OF_AMD
    return None


def resolve_device(device: str) -> str:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:N` or `mps` to a device of this machine.

    `auto` is the first GPU, or else the CPU.
    """
    available = available_devices()
    if device == "auto":
        _refuse_hidden_gpus(available)
        return available[1] if len(available) > 1 else "cpu"
    wanted = {"cuda": "cuda:0", "mps:0": "mps"}.get(device, device)
    if wanted not in available:
        raise ConfigError("device", device, _allowed_devices(available))
    return wanted


def _refuse_hidden_gpus(available: Sequence[str]) -> None:
    """Raise where a setting that names a GPU leaves none: that would become a run on the CPU."""
    setting = os.environ.get(_VISIBLE)
    if len(available) > 1 or setting is None or hides_all(setting) or not torch_has_cuda():
        return
    listed = _listed_uuids()
    if listed:
        named = ", ".join(listed)
        allowed = f"it shows none of the GPUs of this machine ({named}); device=cpu uses none"
        raise ConfigError(_VISIBLE, setting, allowed)


def _allowed_devices(available: Sequence[str]) -> str:
    named = "allowed is one of " + ", ".join(["auto", *available])
    if len(available) > 1:
        return named
    if torch_has_rocm():
        return f"{named} (no AMD GPU is visible to this process)"
    if not torch_has_cuda():
        return f"{named} (the torch installed here is built without CUDA)"
    return f"{named} (no NVIDIA GPU is visible to this process)"


@functools.cache
def torch_has_cuda() -> bool:
    return _torch_is_built_with("cuda")


@functools.cache
def torch_has_rocm() -> bool:
    return _torch_is_built_with("hip")


def _torch_is_built_with(name: str) -> bool:
    """Read from torch's version file, because importing torch costs a second."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(rf"^{name}\b[^=]*=\s*['\"]", text, flags=re.MULTILINE) is not None


def torch_has_mps() -> bool:
    """Every torch for macOS on Apple silicon has Metal; whether it works is seen in the worker."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _visible_gpus() -> tuple[tuple[Gpu, ...], str | None]:
    return _cached_gpus(os.environ.get(_VISIBLE))


@functools.cache
def _cached_gpus(cuda_visible_devices: str | None) -> tuple[tuple[Gpu, ...], str | None]:
    with open_nvml() as nvml:
        if nvml is None:
            return (), None
        driver = as_text(nvml.nvmlSystemGetDriverVersion())
        return visible_gpus(nvml, cuda_visible_devices), driver


def _listed_uuids() -> list[str]:
    with open_nvml() as nvml:
        return [] if nvml is None else list_uuids(nvml)


@contextmanager
def open_nvml() -> Iterator[Any | None]:
    """The library of the driver; None where there is no driver or it does not answer."""
    if not nvidia_driver_present():
        yield None
        return
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def nvidia_driver_present() -> bool:
    """Whether NVML can have a GPU; importing NVML takes 40 ms."""
    if sys.platform != "linux":
        return importlib.util.find_spec("pynvml") is not None
    # /dev/dxg is the GPU of a Linux guest under Windows.
    devices = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
    found = any(device.exists() for device in devices)
    return found and importlib.util.find_spec("pynvml") is not None


# Processor, memory, system


def usable_cores() -> int:
    """Cores that this process may use, by affinity and container quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_text("cpu.max", v1=None)
    if quota is None or quota.split()[0] == "max":
        return cores
    share, period = (int(part) for part in quota.split())
    return min(cores, max(1, math.ceil(share / period)))


def _memory_bytes() -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _cgroup_text("memory.max", v1="memory.limit_in_bytes")
    if limit is None or limit.strip() == "max":
        return physical
    return min(physical, int(limit))


def free_memory_bytes() -> int:
    """Main memory that a new process can have without anything being swapped or killed."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit = _cgroup_text("memory.max", v1="memory.limit_in_bytes")
    used = _cgroup_text("memory.current", v1="memory.usage_in_bytes")
    if limit is None or used is None or limit.strip() == "max":
        return free
    # Pages of files count as used until somebody else wants them.
    cached = _named_count(_cgroup_text("memory.stat", v1="memory.stat") or "", "inactive_file")
    return min(free, max(0, int(limit) - int(used) + (cached or 0)))


def _cpu_model() -> str:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    fields = _first_processor(_read(Path("/proc/cpuinfo")) or "")
    if "model name" in fields:
        return fields["model name"]
    # ARM kernels report numbers instead of a name.
    if "CPU part" in fields:
        return f"{platform.machine()} {fields['CPU implementer']} {fields['CPU part']}"
    return platform.processor() or platform.machine()


def _first_processor(cpuinfo: str) -> dict[str, str]:
    lines = cpuinfo.split("\n\n", 1)[0].splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _operating_system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"


# Out of memory


def oom_kill_count(
    *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """How many processes the kernel has killed for memory; None if it does not report it.

    The count of the own control group comes first: the machine-wide one also rises for other
    containers.
    """
    own = _cgroup_text("memory.events", v1="memory.oom_control", proc=proc, cgroup=cgroup)
    for text in (own, _read(proc / "vmstat")):
        count = _named_count(text or "", "oom_kill")
        if count is not None:
            return count
    return None


def tell_oom_kill(status: int, kills_before: int | None) -> str | None:
    """What shows that the kernel killed a process for memory, from the status it ended with."""
    kills = oom_kill_count()
    if status != -signal.SIGKILL or None in (kills_before, kills) or kills == kills_before:
        return None
    return f"the kernel counts {kills} out-of-memory kills, before it was {kills_before}"


def _named_count(text: str, name: str) -> int | None:
    found = re.search(rf"^{name} (\d+)$", text, flags=re.MULTILINE)
    return int(found.group(1)) if found else None


def _cgroup_text(
    name: str,
    *,
    v1: str | None,
    proc: Path = Path("/proc"),
    cgroup: Path = Path("/sys/fs/cgroup"),
) -> str | None:
    """A control-group file of this process, by its version 2 or version 1 name."""
    paths = _cgroup_paths(_read(proc / "self/cgroup") or "")
    candidates = [cgroup / paths[""].lstrip("/") / name, cgroup / name] if "" in paths else []
    if v1 and "memory" in paths:
        folder = cgroup / "memory"
        candidates += [folder / paths["memory"].lstrip("/") / v1, folder / v1]
    texts = (_read(candidate) for candidate in candidates)
    return next((text for text in texts if text), None)


def _cgroup_paths(text: str) -> dict[str, str]:
    """Paths by controller; version 2 has one line, with an empty controller."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= {controller: path for controller in controllers.split(",")}
    return paths


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
