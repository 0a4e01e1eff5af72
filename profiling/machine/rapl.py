"""RAPL: energy counters of a processor for its packages and memory (Linux powercap)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiling.files import describe

POWERCAP = Path("/sys/class/powercap")
PACKAGE, DRAM = "cpu_package", "dram"
# An upper limit of a package's power. It limits the length of a window, so that no wrap is missed.
LARGEST_PACKAGE_W = 1000.0
MICRO = 1e-6

ABSENT = (
    "no RAPL under {root}: this processor or kernel has none, or a virtual machine or container "
    "hides it; run on the bare machine with the intel_rapl_common module loaded"
)
FORBIDDEN = (
    "RAPL is present but only root may read {path}; allow it with "
    "`sudo chmod a+r {root}/intel-rapl:*/energy_uj`"
)
UNREADABLE = "RAPL under {root} has a {name} domain that cannot be read: {problem}"
NO_ZONE = "RAPL under {root} has no {name} domain on this processor"


class Zone:
    """One RAPL domain, with its counter unwrapped."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "energy_uj"
        self.range_uj = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        self._last_uj = self.read_uj()
        self._total_uj = 0

    def read_uj(self) -> int:
        return int(self.path.read_text(encoding="ascii"))

    def advance(self) -> int:
        """Microjoules since this object was created."""
        now_uj = self.read_uj()
        step_uj = now_uj - self._last_uj
        self._total_uj += step_uj if step_uj >= 0 else step_uj + self.range_uj
        self._last_uj = now_uj
        return self._total_uj


class RaplCounter:
    """All domains of one kind: a machine with two sockets has two packages."""

    def __init__(self, *, component: str, zones: Sequence[Zone]) -> None:
        self.component = component
        self.zones = zones
        self.source = f"RAPL {component} energy counter ({len(zones)} domain(s))"
        smallest_uj = min((zone.range_uj for zone in zones), default=math.inf)
        self.longest_window_s = smallest_uj * MICRO / LARGEST_PACKAGE_W

    def read_j(self) -> float:
        return sum(zone.advance() for zone in self.zones) * MICRO

    def read_mark(self) -> float:
        return self.read_j()


@dataclass(frozen=True, kw_only=True)
class Rapl:
    """RAPL on this machine: counters by component, and reasons for missing ones."""

    counters: dict[str, RaplCounter]
    missing: dict[str, str]


def open_rapl(root: Path) -> Rapl:
    folders = {PACKAGE: list(_find(root, "package")), DRAM: list(_find(root, "dram"))}
    if not any(folders.values()):
        return Rapl(counters={}, missing=dict.fromkeys(folders, ABSENT.format(root=root)))
    counters: dict[str, RaplCounter] = {}
    missing: dict[str, str] = {}
    for component, found in folders.items():
        try:
            zones = [Zone(folder) for folder in found]
        except PermissionError as error:
            missing[component] = FORBIDDEN.format(path=error.filename, root=root)
            continue
        except (OSError, ValueError) as error:
            problem = describe(error)
            missing[component] = UNREADABLE.format(root=root, name=component, problem=problem)
            continue
        if zones:
            counters[component] = RaplCounter(component=component, zones=zones)
        else:
            missing[component] = NO_ZONE.format(root=root, name=component)
    return Rapl(counters=counters, missing=missing)


def _find(root: Path, prefix: str) -> Iterator[Path]:
    """Folders of the domains with this name; the kernel also links nested ones at the top."""
    for folder in sorted(root.glob("intel-rapl:*")):
        name = folder / "name"
        if name.is_file() and name.read_text(encoding="ascii").startswith(prefix):
            yield folder
