"""The most a device can do: FLOP/s and bytes/s measured once and kept, data sheet beside."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from profiling.machine.data_sheets import find_data_sheet
from profiling.machine.machine import describe_machine
from profiling.records import DERIVED, MEASURED, Reading

SMALLEST_SIDE = 64
# The least share of its time that a measurement on the CPU must have had a core.
QUIET_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The highest rates seen on one device for one dtype."""

    device_name: str
    dtype: str
    flops_per_s: float
    bytes_per_s: float
    matmul_size: int
    copy_bytes: int

    def readings(self) -> Iterator[Reading]:
        reading = partial(Reading, phase="run")
        n, name = self.matmul_size, f"{self.dtype} on {self.device_name}"
        yield reading(
            metric="peak_flops_per_s",
            value=self.flops_per_s,
            unit="FLOP/s",
            status=MEASURED,
            source=f"fastest product of a linear layer, {n}x{n}x{n}, {name}",
        )
        yield reading(
            metric="peak_bytes_per_s",
            value=self.bytes_per_s,
            unit="bytes/s",
            status=MEASURED,
            source=f"fastest copy of {self.copy_bytes} bytes, both ways, on {self.device_name}",
        )
        yield from self._sheet_readings()

    def _sheet_readings(self) -> Iterator[Reading]:
        sheet = find_data_sheet(self.device_name)
        if sheet is None:
            return
        reading = partial(Reading, phase="run", status=DERIVED, source=sheet.document)
        if self.dtype in sheet.flops_per_s:
            flops = sheet.flops_per_s[self.dtype]
            yield reading(metric="peak_flops_per_s_data_sheet", value=flops, unit="FLOP/s")
        yield reading(metric="peak_bytes_per_s_data_sheet", value=sheet.bytes_per_s, unit="bytes/s")


# The roofline


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a phase lies under the roof of its device."""

    flops: float
    moved_bytes: float
    duration_s: float
    peaks: Peaks

    @property
    def intensity(self) -> float:
        """FLOP a byte moved."""
        return self.flops / self.moved_bytes

    @property
    def compute_bound_s(self) -> float:
        return self.flops / self.peaks.flops_per_s

    @property
    def memory_bound_s(self) -> float:
        return self.moved_bytes / self.peaks.bytes_per_s

    @property
    def lower_bound_s(self) -> float:
        """No run of this phase can be shorter on this device."""
        return max(self.compute_bound_s, self.memory_bound_s)

    @property
    def bound_by(self) -> str:
        return "compute" if self.compute_bound_s >= self.memory_bound_s else "memory"

    @property
    def flops_utilization(self) -> float:
        """MFU: the share of the peak FLOP/s that the phase reached."""
        return self.compute_bound_s / self.duration_s

    @property
    def bandwidth_utilization(self) -> float:
        """MBU: the share of the peak bytes/s that the phase reached."""
        return self.memory_bound_s / self.duration_s


# Measuring


def find_peaks(
    device_name: str, dtype_name: str, *, folder: Path, target_s: float, copy_bytes: int
) -> Peaks:
    """The peaks of a device for a dtype, by torch's names, measured now or kept from before."""
    import torch

    device, dtype = torch.device(device_name), getattr(torch, dtype_name)
    key = _describe(device, dtype)
    path = folder / f"{_digest(key)}.json"
    kept = _read(path, key)
    if kept is not None:
        return kept
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    peaks = measure_peaks(device, dtype, target_s=target_s, copy_bytes=copy_bytes)
    cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    # A peak taken while others had the core would make every later run look too good.
    if device.type != "cpu" or cpu_share >= QUIET_SHARE:
        _keep(path, key, peaks)
    return peaks


def cache_folder() -> Path:
    """Where measured peaks outlive a run, by the XDG convention."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vlm-profiling" / "peaks"


def _describe(device: Any, dtype: Any) -> dict[str, Any]:
    import torch

    machine = describe_machine()
    return {
        "device": _device_name(device),
        "driver": machine.gpu_driver if device.type == "cuda" else None,
        "kernel": platform.release(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "dtype": _dtype_name(dtype),
    }


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path, key: Mapping[str, Any]) -> Peaks | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return Peaks(**kept["peaks"]) if kept.get("key") == key else None


def _keep(path: Path, key: Mapping[str, Any], peaks: Peaks) -> None:
    text = json.dumps({"key": key, "peaks": asdict(peaks)}, indent=1, sort_keys=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        # A home that cannot be written costs a second of measuring a run, nothing else.
        with suppress(OSError):
            temporary.unlink()


def _device_name(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return describe_machine().cpu_model


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def measure_peaks(device: Any, dtype: Any, *, target_s: float, copy_bytes: int) -> Peaks:
    size, matmul_s = _time_matmul(device, dtype, target_s)
    return Peaks(
        device_name=_device_name(device),
        dtype=_dtype_name(dtype),
        flops_per_s=2 * size**3 / matmul_s,
        bytes_per_s=2 * copy_bytes / _time_copy(device, copy_bytes, target_s),
        matmul_size=size,
        copy_bytes=copy_bytes,
    )


def _time_matmul(device: Any, dtype: Any, target_s: float) -> tuple[int, float]:
    """Side and seconds of the product with the highest rate, sides doubled up to the target.

    Multiplied as a linear layer does, by a transposed matrix: where a processor has no units for
    a dtype, the library is many times slower with the matrix as it stands.
    """
    import torch

    size, best_size, best_s = SMALLEST_SIDE, SMALLEST_SIDE, float("inf")
    while True:
        left = torch.randn(size, size, device=device).to(dtype)
        product = partial(torch.nn.functional.linear, left, left)
        seconds = _fastest_s(product, device, target_s)
        if size**3 / seconds > best_size**3 / best_s:
            best_size, best_s = size, seconds
        # Eight times the work a step: the next side would take eight times as long.
        if seconds * 8 > target_s or size >= 16384:
            return best_size, best_s
        size *= 2


def _time_copy(device: Any, copy_bytes: int, target_s: float) -> float:
    import torch

    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return _fastest_s(partial(target.copy_, source), device, target_s)


def _fastest_s(work: Callable[[], object], device: Any, target_s: float) -> float:
    """The shortest of as many runs as fit into the target, after one that does not count."""
    _timed_s(work, device)
    times_s: list[float] = []
    while not times_s or (sum(times_s) < target_s and len(times_s) < 100):
        times_s.append(_timed_s(work, device))
    return min(times_s)


def _timed_s(work: Callable[[], object], device: Any) -> float:
    _synchronize(device)
    started_s = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - started_s


def _synchronize(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
