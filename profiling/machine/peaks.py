"""Peaks of a device: the highest FLOP/s and bytes/s, measured while nobody disturbs, and kept."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from profiling.files import read_json
from profiling.machine.data_sheets import find_data_sheet
from profiling.machine.machine import describe_machine, gpu_uuid
from profiling.machine.noise import NoiseGate, NoiseLimits
from profiling.machine.nvml import board_of
from profiling.records import DERIVED, MEASURED, Reading, reading

# Rows, inputs and outputs of a linear layer. Squares, and layers with few rows: the matrix units of
# a processor need 128 rows or more to be at full speed.
SQUARES = tuple((side, side, side) for side in (64 << step for step in range(9)))
LAYERS = tuple((rows, 2048, 8192) for rows in (128, 256, 512))
# Up to here a shape is timed whatever the smaller ones showed: their few microseconds say little.
LARGEST_SURE_FLOPS = 2 * 256**3
LEAST_TIMINGS, MOST_TIMINGS = 5, 50
LARGEST_FILE_BYTES = 2**16

Shape = tuple[int, int, int]


class NoPeaks(Exception):
    """No peaks can be had at present; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The highest rates seen on one device for one dtype."""

    device_name: str
    dtype: str
    flops_per_s: float
    bytes_per_s: float
    matmul_shape: Shape
    threads: int | None  # of the fastest product; None on a GPU
    copy_bytes: int

    def readings(self) -> Iterator[Reading]:
        row = partial(reading, status=MEASURED)
        yield row(
            metric="peak_flops_per_s",
            value=self.flops_per_s,
            source=f"fastest product of a linear layer, {self._describe_product()}",
        )
        yield row(
            metric="peak_bytes_per_s",
            value=self.bytes_per_s,
            source=f"fastest copy of {self.copy_bytes} bytes, both ways, on {self.device_name}",
        )
        yield from self._sheet_readings()

    def _describe_product(self) -> str:
        sizes = "x".join(map(str, self.matmul_shape))
        threads = "" if self.threads is None else f", threads: {self.threads}"
        return f"{sizes}, {self.dtype} on {self.device_name}{threads}"

    def _sheet_readings(self) -> Iterator[Reading]:
        sheet = find_data_sheet(self.device_name)
        if sheet is None:
            return
        row = partial(reading, status=DERIVED, source=sheet.document)
        if self.dtype in sheet.flops_per_s:
            flops = sheet.flops_per_s[self.dtype]
            yield row(
                metric="peak_flops_per_s_data_sheet",
                value=flops,
            )
        yield row(
            metric="peak_bytes_per_s_data_sheet",
            value=sheet.bytes_per_s,
        )


# The roofline


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A phase on the roofline of its device."""

    flops: float
    moved_bytes: float
    duration_s: float
    peaks: Peaks

    @property
    def intensity(self) -> float:
        """FLOP per byte moved."""
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


# The cache


def find_peaks(
    device_name: str,
    dtype_name: str,
    *,
    folder: Path,
    target_s: float,
    copy_bytes: int,
    limits: NoiseLimits,
    reached_flops_per_s: float,
) -> Peaks:
    """The peaks of a device for a dtype, by torch's names, kept from an earlier time or measured.

    Peaks are kept only if the noise gate found the machine quiet, and only if no phase was faster:
    `reached_flops_per_s` is the highest rate of a phase of this run. Otherwise `NoPeaks` is raised,
    and a later run measures again.
    """
    import torch

    device, dtype = torch.device(device_name), getattr(torch, dtype_name)
    # A shorter measurement tries fewer shapes, and a smaller copy may stay in a cache.
    key = _describe(device, dtype) | {"target_s": target_s, "copy_bytes": copy_bytes}
    path = folder / f"{_digest(key)}.json"
    kept = _read(path, key)
    if kept is not None and kept.flops_per_s >= reached_flops_per_s:
        return kept
    _discard(path)
    measured = _measure_undisturbed(
        device, dtype, target_s=target_s, copy_bytes=copy_bytes, limits=limits
    )
    if measured.flops_per_s < reached_flops_per_s:
        raise NoPeaks(
            f"the fastest product reached {measured.flops_per_s:.3g} FLOP/s, a phase of this run "
            f"{reached_flops_per_s:.3g} FLOP/s: that is no peak, and is measured again next time"
        )
    _keep(path, key, measured)
    return measured


def _measure_undisturbed(
    device: Any, dtype: Any, *, target_s: float, copy_bytes: int, limits: NoiseLimits
) -> Peaks:
    """Peaks measured under the noise gate; `NoPeaks` where it found the machine busy.

    A peak that others made too low would make every later run look too good.
    """
    with board_of(gpu_uuid(str(device))) as board:
        gate = NoiseGate(limits=limits, board=board, cpu_bound=device.type == "cpu")
        with gate:
            measured = measure_peaks(device, dtype, target_s=target_s, copy_bytes=copy_bytes)
    if gate.reason is not None:
        raise NoPeaks(f"the machine was busy, measured again next time: {gate.reason}")
    return measured


def cache_folder() -> Path:
    """Where measured peaks outlive a run, by the XDG convention."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vlm-profiling" / "peaks"


def _describe(device: Any, dtype: Any) -> dict[str, Any]:
    import torch

    from profiling.machine.torch_device import name_device

    machine = describe_machine()
    return {
        "device": name_device(device),
        "driver": machine.gpu_driver if device.type == "cuda" else None,
        "kernel": platform.release(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "dtype": _dtype_name(dtype),
    }


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path, key: Mapping[str, Any]) -> Peaks | None:
    """The peaks kept under that key; None for a file that is not there, damaged or another's."""
    try:
        kept = read_json(path, at_most=LARGEST_FILE_BYTES)
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("key") != key:
        return None
    return _parse(kept.get("peaks"))


def _parse(values: Any) -> Peaks | None:
    """Peaks from what a file holds; None where a value is not what it has to be."""
    if not isinstance(values, dict) or values.keys() != Peaks.__dataclass_fields__.keys():
        return None
    names = (values["device_name"], values["dtype"])
    shape, threads = values["matmul_shape"], values["threads"]
    rates = (values["flops_per_s"], values["bytes_per_s"])
    if not isinstance(shape, list) or len(shape) != 3:
        return None
    counts = (*shape, values["copy_bytes"], *([] if threads is None else [threads]))
    right = (
        all(isinstance(name, str) for name in names)
        and all(_is_positive(rate, int | float) for rate in rates)
        and all(_is_positive(count, int) for count in counts)
    )
    return Peaks(**{**values, "matmul_shape": tuple(shape)}) if right else None


def _is_positive(value: Any, kind: Any) -> bool:
    return (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def _keep(path: Path, key: Mapping[str, Any], peaks: Peaks) -> None:
    """Write the file whole or not at all.

    A folder that cannot be written costs a second of measuring in each run, and nothing else.
    """
    text = json.dumps({"key": key, "peaks": asdict(peaks)}, indent=1, sort_keys=True)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(name, path)
        except OSError:
            Path(name).unlink()


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


# Measuring


@dataclass(frozen=True, kw_only=True)
class Product:
    """A timed product of a linear layer."""

    shape: Shape
    threads: int | None
    seconds: float

    @property
    def flops_per_s(self) -> float:
        return _count_flops(self.shape) / self.seconds


def _count_flops(shape: Shape) -> int:
    return 2 * math.prod(shape)


def measure_peaks(device: Any, dtype: Any, *, target_s: float, copy_bytes: int) -> Peaks:
    from profiling.machine.torch_device import name_device

    product = _find_fastest_product(device, dtype, target_s)
    return Peaks(
        device_name=name_device(device),
        dtype=_dtype_name(dtype),
        flops_per_s=product.flops_per_s,
        bytes_per_s=2 * copy_bytes / _time_copy(device, copy_bytes, target_s),
        matmul_shape=product.shape,
        threads=product.threads,
        copy_bytes=copy_bytes,
    )


def find_rough_rates(
    device_name: str, dtype_name: str, *, threads: int, target_s: float, copy_bytes: int
) -> tuple[float, float]:
    """FLOP/s and bytes/s for an estimate, measured once on however busy a machine.

    They are kept apart from the peaks of records, which a busy machine would spoil.
    """
    import torch

    torch.set_num_threads(threads)
    device, dtype = torch.device(device_name), getattr(torch, dtype_name)
    key = _describe(device, dtype)
    path = cache_folder().with_name("rough_peaks") / f"{_digest(key)}.json"
    kept = _read(path, key)
    if kept is None:
        kept = measure_peaks(device, dtype, target_s=target_s, copy_bytes=copy_bytes)
        _keep(path, key, kept)
    return kept.flops_per_s, kept.bytes_per_s


def _find_fastest_product(device: Any, dtype: Any, target_s: float) -> Product:
    """The product with the highest rate among all shapes that can be timed within the target.

    On a CPU the fastest shape is tried with half of the threads too: two threads of one core share
    its matrix units.
    """
    first, *others = (*SQUARES, *LAYERS)
    fastest = _time_product(first, device, dtype, target_s)
    for shape in others:
        if _fits(shape, fastest, target_s):
            product = _time_product(shape, device, dtype, target_s)
            fastest = max(fastest, product, key=lambda timed: timed.flops_per_s)
    if fastest.threads is None or fastest.threads < 2:
        return fastest
    with _threads(fastest.threads // 2):
        halved = _time_product(fastest.shape, device, dtype, target_s)
    return max(fastest, halved, key=lambda timed: timed.flops_per_s)


def _fits(shape: Shape, fastest: Product, target_s: float) -> bool:
    flops = _count_flops(shape)
    return flops <= LARGEST_SURE_FLOPS or LEAST_TIMINGS * flops / fastest.flops_per_s <= target_s


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time_product(shape: Shape, device: Any, dtype: Any, target_s: float) -> Product:
    """Multiplied as a linear layer does, by a transposed matrix.

    Where a processor has no units for a dtype, the library is many times slower with the matrix as
    it is.
    """
    import torch

    rows, inputs, outputs = shape
    given = torch.randn(rows, inputs, device=device).to(dtype)
    weight = torch.randn(outputs, inputs, device=device).to(dtype)
    seconds = _fastest_s(partial(torch.nn.functional.linear, given, weight), device, target_s)
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return Product(shape=shape, threads=threads, seconds=seconds)


def _time_copy(device: Any, copy_bytes: int, target_s: float) -> float:
    import torch

    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return _fastest_s(partial(target.copy_, source), device, target_s)


def _fastest_s(work: Callable[[], object], device: Any, target_s: float) -> float:
    """The shortest of as many runs as fit into the target, and of a few at least.

    One run that was interrupted says nothing; the first does not count.
    """
    _timed_s(work, device)
    times_s: list[float] = []
    while len(times_s) < LEAST_TIMINGS or (sum(times_s) < target_s and len(times_s) < MOST_TIMINGS):
        times_s.append(_timed_s(work, device))
    return min(times_s)


def _timed_s(work: Callable[[], object], device: Any) -> float:
    from profiling.machine.torch_device import synchronize

    synchronize(device)
    started_s = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started_s
