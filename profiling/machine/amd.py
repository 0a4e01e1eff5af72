"""AMD's GPUs as the kernel's driver (KFD) lists them, for a torch that is built with ROCm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from profiling.machine.gpus import Gpu

SYS = Path("/sys")
_NODES = "class/kfd/kfd/topology/nodes"
_LOCAL_MEMORY = ("1", "2")


def visible_amd_gpus(environment: Mapping[str, str], root: Path = SYS) -> tuple[Gpu, ...]:
    """The GPUs that HIP shows; HIP also obeys CUDA_VISIBLE_DEVICES where its own is not set."""
    shown = _choose(list(_list(root)), environment.get("ROCR_VISIBLE_DEVICES"))
    own = environment.get("HIP_VISIBLE_DEVICES", environment.get("CUDA_VISIBLE_DEVICES"))
    return tuple(
        Gpu(index=index, name=gpu.name, uuid=gpu.uuid, memory_bytes=gpu.memory_bytes)
        for index, gpu in enumerate(_choose(shown, own))
    )


def amd_driver(root: Path = SYS) -> str | None:
    """The version of the driver where it was installed apart from the kernel."""
    path = root / "module/amdgpu/version"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _choose(gpus: Sequence[Gpu], setting: str | None) -> list[Gpu]:
    if setting is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for entry in (part.strip() for part in setting.split(",")):
        found = [g for g in gpus if entry in (str(g.index), g.uuid)]
        if not found:
            break
        chosen += found
    return [
        Gpu(index=index, name=gpu.name, uuid=gpu.uuid, memory_bytes=gpu.memory_bytes)
        for index, gpu in enumerate(chosen)
    ]


def _list(root: Path) -> Iterator[Gpu]:
    nodes = sorted((root / _NODES).glob("[0-9]*"), key=lambda node: int(node.name))
    index = 0
    for node in nodes:
        facts = _read_facts(node / "properties")
        # A processor is a node too, without units that compute as a GPU does.
        if int(facts.get("simd_count", "0")) == 0:
            continue
        yield Gpu(
            index=index,
            name=_name(root, facts),
            uuid=f"GPU-{int(facts.get('unique_id', '0')):016x}",
            memory_bytes=_memory_bytes(node),
        )
        index += 1


def _name(root: Path, facts: Mapping[str, str]) -> str:
    render = f"renderD{facts.get('drm_render_minor', '')}"
    product = root / "class/drm" / render / "device/product_name"
    if product.is_file() and (name := product.read_text(encoding="utf-8").strip()):
        return name
    version = int(facts.get("gfx_target_version", "0"))
    major, minor, step = version // 10000, version // 100 % 100, version % 100
    return f"AMD gfx{major}{minor:x}{step:x}"


def _memory_bytes(node: Path) -> int:
    banks = (_read_facts(path) for path in node.glob("mem_banks/*/properties"))
    sizes = (int(f["size_in_bytes"]) for f in banks if f.get("heap_type") in _LOCAL_MEMORY)
    return sum(sizes)


def _read_facts(path: Path) -> dict[str, str]:
    """Lines of a name and a value; none of a file that may not be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
