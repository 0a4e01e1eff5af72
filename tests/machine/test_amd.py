"""AMD's GPUs on a made-up tree of the kernel's files, and what a torch with ROCm makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiling.errors import ConfigError
from profiling.machine import machine
from profiling.machine.amd import amd_driver, visible_amd_gpus
from profiling.machine.gpus import Gpu
from profiling.machine.machine import (
    available_devices,
    find_uuid,
    gpu_uuid,
    resolve_device,
    why_no_joules,
)

GIBIBYTE = 2**30


def write_node(root: Path, number: int, *, bank: tuple[int, int], **facts: int) -> None:
    folder = root / "class/kfd/kfd/topology/nodes" / str(number)
    (folder / "mem_banks/0").mkdir(parents=True)
    lines = "".join(f"{name} {value}\n" for name, value in facts.items())
    (folder / "properties").write_text(lines)
    kind, size = bank
    (folder / "mem_banks/0/properties").write_text(f"heap_type {kind}\nsize_in_bytes {size}\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A processor and two GPUs, of which one has a product's name."""
    write_node(tmp_path, 0, bank=(0, 9 * GIBIBYTE), simd_count=0, cpu_cores_count=16)
    version = {"gfx_target_version": 90010, "drm_render_minor": 128}
    write_node(tmp_path, 1, bank=(1, 64 * GIBIBYTE), simd_count=440, unique_id=0xAB, **version)
    version = {"gfx_target_version": 110000, "drm_render_minor": 129}
    write_node(tmp_path, 10, bank=(1, 24 * GIBIBYTE), simd_count=192, unique_id=0xCD, **version)
    product = tmp_path / "class/drm/renderD129/device/product_name"
    product.parent.mkdir(parents=True)
    product.write_text("Radeon RX\n")
    return tmp_path


FIRST, SECOND = "GPU-00000000000000ab", "GPU-00000000000000cd"


def test_gpus_are_listed_in_the_order_of_their_nodes(tree: Path) -> None:
    assert visible_amd_gpus({}, tree) == (
        Gpu(index=0, name="AMD gfx90a", uuid=FIRST, memory_bytes=64 * GIBIBYTE),
        Gpu(index=1, name="Radeon RX", uuid=SECOND, memory_bytes=24 * GIBIBYTE),
    )


@pytest.mark.parametrize(
    ("environment", "uuids"),
    [
        ({"HIP_VISIBLE_DEVICES": "1"}, [SECOND]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": "1,0", "CUDA_VISIBLE_DEVICES": "0"}, [SECOND, FIRST]),
        ({"ROCR_VISIBLE_DEVICES": SECOND, "HIP_VISIBLE_DEVICES": "0"}, [SECOND]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"HIP_VISIBLE_DEVICES": "0,7,1"}, [FIRST]),
    ],
)
def test_what_hides_gpus_is_honoured(
    environment: dict[str, str], uuids: list[str], tree: Path
) -> None:
    found = visible_amd_gpus(environment, tree)
    assert [gpu.uuid for gpu in found] == uuids
    assert [gpu.index for gpu in found] == list(range(len(uuids)))


def test_a_machine_without_amd_has_none(tmp_path: Path) -> None:
    assert visible_amd_gpus({}, tmp_path) == ()
    assert amd_driver(tmp_path) is None


def use_rocm(monkeypatch: pytest.MonkeyPatch, gpus: tuple[Gpu, ...]) -> None:
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: False)
    monkeypatch.setattr(machine, "torch_has_rocm", lambda: True)
    monkeypatch.setattr(machine, "visible_amd_gpus", lambda environment: gpus)
    monkeypatch.setattr(machine, "amd_driver", lambda: "6.8")


def test_a_torch_with_rocm_calls_them_cuda(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    use_rocm(monkeypatch, visible_amd_gpus({}, tree))
    assert available_devices() == ["cpu", "cuda:0", "cuda:1"]
    assert resolve_device("auto") == "cuda:0"
    # NVML knows none of them, so nothing is read for another board in their place.
    assert gpu_uuid("cuda:0") is None
    assert find_uuid("ab") is None
    reason = why_no_joules("cuda:0")
    assert reason is not None and "NVIDIA only" in reason
    described = machine.describe_machine()
    assert [gpu.name for gpu in described.gpus] == ["AMD gfx90a", "Radeon RX"]
    assert described.gpu_driver == "6.8"


def test_a_torch_with_rocm_and_no_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    use_rocm(monkeypatch, ())
    with pytest.raises(ConfigError, match="no AMD GPU is visible"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"
