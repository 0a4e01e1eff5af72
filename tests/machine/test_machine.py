"""What the machine is said to be, on made-up processors, GPUs, checkouts and kernels."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.errors import ConfigError
from profiling.machine import machine
from profiling.machine.gpus import Gpu, visible_gpus
from profiling.machine.machine import (
    describe_machine,
    git_state,
    oom_kill_count,
    package_versions,
    resolve_device,
    usable_cores,
)

GIBIBYTE = 2**30


@dataclass
class FakeNvml:
    """Four boards, of which two share the beginning of their UUID."""

    uuids: tuple[str, ...] = ("GPU-aa10", "GPU-aa20", "GPU-bb30", "GPU-cc40")
    as_bytes: bool = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return self._text(f"Board {handle}")

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:
        return self._text(self.uuids[handle])

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=(handle + 1) * GIBIBYTE)

    def _text(self, text: str) -> str | bytes:
        return text.encode() if self.as_bytes else text


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        (None, ["Board 0", "Board 1", "Board 2", "Board 3"]),
        ("", []),
        ("-1", []),
        ("2", ["Board 2"]),
        ("3,1", ["Board 3", "Board 1"]),
        ("0, 2", ["Board 0", "Board 2"]),
        # The entries before the first wrong one count.
        ("1,7,0", ["Board 1"]),
        ("1,-1,0", ["Board 1"]),
        ("nonsense", []),
        ("1,1", []),
        ("GPU-bb30", ["Board 2"]),
        ("GPU-bb", ["Board 2"]),
        ("GPU-aa", []),
        ("GPU-cc40,GPU-aa10", ["Board 3", "Board 0"]),
    ],
)
def test_cuda_visible_devices_is_honoured(setting: str | None, names: list[str]) -> None:
    found = visible_gpus(FakeNvml(), setting)
    assert [gpu.name for gpu in found] == names
    assert [gpu.index for gpu in found] == list(range(len(names)))


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_gpu_is_described_whatever_kind_of_text_the_library_gives(as_bytes: bool) -> None:
    [gpu] = visible_gpus(FakeNvml(as_bytes=as_bytes), "2")
    assert gpu == Gpu(index=0, name="Board 2", uuid="GPU-bb30", memory_bytes=3 * GIBIBYTE)


@given(st.lists(st.integers(0, 3), unique=True))
def test_indices_and_uuids_name_the_same_boards(chosen: list[int]) -> None:
    nvml = FakeNvml()
    by_index = visible_gpus(nvml, ",".join(map(str, chosen)))
    by_uuid = visible_gpus(nvml, ",".join(nvml.uuids[i] for i in chosen))
    assert by_index == by_uuid
    assert [gpu.uuid for gpu in by_index] == [nvml.uuids[i] for i in chosen]


# Devices


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = visible_gpus(FakeNvml(), "0,1")
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(machine, "_visible_gpus", lambda: (gpus, "600.1"))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: True)
    monkeypatch.setattr(machine, "_visible_gpus", lambda: ((), None))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("asked", "device"),
    [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_device_is_resolved(asked: str, device: str) -> None:
    assert resolve_device(asked) == device


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("asked", ["cuda:2", "cuda:-1", "cuda:", "gpu", "", "CPU", "mps"])
def test_a_device_that_is_not_there_names_those_that_are(asked: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve_device(asked)
    assert str(raised.value) == f"device={asked}: allowed is one of auto, cpu, cuda:0, cuda:1"


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no NVIDIA GPU is visible"):
        resolve_device("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_a_torch_without_cuda_has_no_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: False)
    with pytest.raises(ConfigError, match="built without CUDA"):
        resolve_device("cuda:0")


@pytest.mark.parametrize(
    ("line", "has_cuda"),
    [
        ("cuda: Optional[str] = None", False),
        ("cuda: Optional[str] = '12.8'", True),
        ('cuda = "13.0"', True),
        ("cuda_version = '1'", False),
        ("hip: Optional[str] = '6.1'", False),
    ],
)
def test_cuda_is_read_off_torchs_version_file(
    line: str, has_cuda: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(f"__version__ = '2.0'\n{line}\n")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: spec)
    machine.torch_has_cuda.cache_clear()
    assert machine.torch_has_cuda() is has_cuda
    monkeypatch.undo()
    machine.torch_has_cuda.cache_clear()


def test_the_version_file_agrees_with_torch_itself() -> None:
    import torch

    assert machine.torch_has_cuda() is (torch.version.cuda is not None)


# Identity


def test_identity_leaves_out_what_does_not_change_a_measurement() -> None:
    here = describe_machine()
    other = replace(here, hostname="elsewhere", memory_bytes=1, python="3.99")
    assert here.identity() == other.identity()
    assert here.identity() != replace(here, cpu_model="another").identity()
    assert here.identity() != replace(here, gpu_driver="999").identity()
    assert here.identity() != replace(here, operating_system="another").identity()


def test_equal_gpus_are_one_identity_however_many_are_visible() -> None:
    gpus = tuple(Gpu(index=i, name="Same", uuid=f"GPU-{i}", memory_bytes=1) for i in range(2))
    here = replace(describe_machine(), gpus=gpus)
    assert here.identity() == replace(here, gpus=gpus[1:]).identity()
    assert here.identity() != replace(here, gpus=()).identity()


def test_a_machine_is_plain_json() -> None:
    gpus = visible_gpus(FakeNvml(), "1")
    described = replace(describe_machine(), gpus=gpus).to_dict()
    assert json.loads(json.dumps(described))["gpus"][0]["uuid"] == "GPU-aa20"


def test_this_machine_is_described() -> None:
    here = describe_machine()
    assert here.cpu_model.strip()
    assert here.cpu_count >= 1
    assert here.memory_bytes > 2**27
    assert here.python == platform.python_version()


def test_a_processor_without_a_name_is_described_by_its_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\n"
    monkeypatch.setattr(machine, "_read", lambda path: text)
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert machine._cpu_model() == "aarch64 0x41 0xd0c"


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("150000 100000", 2), (None, 8)])
def test_a_containers_quota_bounds_the_cores(
    quota: str | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(machine, "_cgroup_text", lambda name, v1: quota)
    assert usable_cores() == cores


def test_versions_are_those_of_the_installed_packages() -> None:
    import numpy
    import torch

    found = package_versions()
    assert found["torch"] == torch.__version__
    assert found["numpy"] == numpy.__version__
    assert set(found) <= set(machine.PACKAGES)


# Checkout


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "kept").write_text("1")
    git(root, "add", "kept")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_a_clean_and_a_changed_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "results").write_text("not tracked")
    assert git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / "kept").write_text("2")
    assert git_state(checkout) == {"commit": commit, "dirty": True}


def test_a_folder_inside_another_checkout_has_no_commit_of_its_own(checkout: Path) -> None:
    inner = checkout / "copy"
    inner.mkdir()
    assert git_state(inner) is None


def test_a_checkout_without_a_commit_has_no_state(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) is None


def test_a_hooks_environment_does_not_mislead(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert git_state(checkout) is not None


def test_without_git_there_is_no_state(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert git_state(checkout) is None


# Out of memory


def kernel(root: Path, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"proc": root / "proc", "cgroup": root / "cgroup"}


VMSTAT = {"proc/vmstat": "pgfault 1\noom_kill 9\n"}


def test_the_own_group_comes_before_the_whole_machine(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/jobs/one\n",
        "cgroup/jobs/one/memory.events": "low 0\noom 5\noom_kill 3\noom_group_kill 0\n",
    }
    assert oom_kill_count(**kernel(tmp_path, VMSTAT | files)) == 3


def test_a_group_seen_from_inside_lies_at_the_root(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/jobs/one\n", "cgroup/memory.events": "oom_kill 4\n"}
    assert oom_kill_count(**kernel(tmp_path, VMSTAT | files)) == 4


def test_an_old_kernels_group_counts_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/jobs\n1:cpu,cpuacct:/\n",
        "cgroup/memory/jobs/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    }
    assert oom_kill_count(**kernel(tmp_path, VMSTAT | files)) == 2


def test_without_a_group_the_machine_counts_and_without_both_nothing(tmp_path: Path) -> None:
    paths = kernel(tmp_path, VMSTAT)
    assert oom_kill_count(**paths) == 9
    (tmp_path / "proc/vmstat").unlink()
    assert oom_kill_count(**paths) is None


def test_importing_it_loads_no_framework() -> None:
    code = (
        "import json, sys; from profiling.machine.machine import describe_machine, resolve_device;"
        "describe_machine(); resolve_device('auto');"
        "print(json.dumps([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
