"""The memory probe against allocations of known size and a GPU of made-up numbers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from profiling.machine.resident import (
    SELF,
    give_back_freed_memory,
    read_high_water_bytes,
    read_resident_bytes,
    reset_high_water_mark,
)
from profiling.probes import memory
from profiling.probes.memory import (
    ON_CPU,
    GpuPeak,
    MemoryProbe,
    PeakWatch,
    read_weights,
    watch_cache,
)
from profiling.records import MEASURED, UNAVAILABLE, Reading

MEBIBYTE = 2**20
BIG = 96 * MEBIBYTE
# Pages of the interpreter come and go beside the known block.
SLACK = 8 * MEBIBYTE


def fill(size: int) -> None:
    """Take so many bytes, touch every page, give them back."""
    torch.ones(size, dtype=torch.uint8)


class Generating:
    """A workload whose passes take a block of known size."""

    batch_size = 2

    def __init__(self, size: int) -> None:
        self.size = size
        config = LlamaConfig(
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=64,
        )
        network = LlamaForCausalLM(config).eval()
        self.model = SimpleNamespace(
            device=torch.device("cpu"),
            network=network,
            has_fixed_cache=False,
            parts=lambda: {"projector": [], "language": [network.model], "head": [network.lm_head]},
        )

    def run(self, index: int, *, max_new_tokens: int | None = None) -> torch.Tensor:
        fill(self.size)
        prompt = torch.ones(self.batch_size, 5, dtype=torch.long)
        tokens: torch.Tensor = self.model.network.generate(
            prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0
        )
        return tokens


def aggregates(readings: Any) -> dict[str, Reading]:
    return {reading.metric: reading for reading in readings}


def test_the_probe_finds_a_block_of_known_size() -> None:
    workload = Generating(BIG)
    workload.run(0)
    found = aggregates(MemoryProbe(passes=2, sample_interval_s=0.005).measure(workload))  # type: ignore[arg-type]
    delta = found["cpu_memory_delta_bytes"]
    assert delta.status == MEASURED
    assert delta.value + SLACK >= BIG  # type: ignore[operator]
    assert delta.value < BIG + SLACK  # type: ignore[operator]
    assert found["peak_memory_bytes"] == Reading(
        phase="total",
        metric="peak_memory_bytes",
        value=found["cpu_memory_peak_bytes"].value,
        unit="bytes",
        status=MEASURED,
        source=memory.KERNEL,
    )
    for metric in ("gpu_memory_peak_bytes", "gpu_memory_delta_bytes"):
        assert (found[metric].value, found[metric].status) == (None, UNAVAILABLE)
        assert found[metric].source == ON_CPU


def test_an_earlier_peak_does_not_count() -> None:
    fill(3 * BIG)
    with PeakWatch(sample_interval_s=0.005) as watch:
        fill(BIG)
    assert watch.source == memory.KERNEL
    assert watch.peak_bytes - watch.before_bytes < BIG + SLACK


def take_small_blocks() -> bytearray:
    """Blocks small enough for the heap, and one behind them that keeps it from shrinking."""
    blocks = [bytearray(60_000) for _ in range(1500)]
    last = bytearray(60_000)
    del blocks
    return last


def test_equal_runs_show_equal_deltas() -> None:
    # The first one takes the holes that earlier tests left in the heap, which are resident already.
    deltas, kept = [], [take_small_blocks()]
    for _ in range(3):
        with PeakWatch(sample_interval_s=0.01) as watch:
            kept.append(take_small_blocks())
        deltas.append(watch.peak_bytes - watch.before_bytes)
    assert deltas == pytest.approx([1500 * 60_000] * 3, abs=SLACK)


def test_a_peak_that_was_not_reset_would_be_seen() -> None:
    give_back_freed_memory()
    reset_high_water_mark(SELF)
    before = read_resident_bytes(SELF)
    fill(BIG)
    assert read_high_water_bytes(SELF) - before > BIG - SLACK
    assert reset_high_water_mark(SELF)
    assert read_high_water_bytes(SELF) - before < SLACK


@pytest.fixture
def still_proc(tmp_path: Path) -> Path:
    """A process folder whose kernel has no mark that could be reset."""
    (tmp_path / "statm").write_text("1000 500 0 0 0 0 0")
    (tmp_path / "clear_refs").mkdir()
    return tmp_path


def test_without_the_kernels_mark_the_sampler_takes_over(still_proc: Path) -> None:
    page = read_resident_bytes(still_proc) // 500
    with PeakWatch(sample_interval_s=0.001, proc=still_proc) as watch:
        (still_proc / "statm.new").write_text("1000 900 0 0 0 0 0")
        (still_proc / "statm.new").replace(still_proc / "statm")
        wait_for(lambda: watch.sampled_peak_bytes == 900 * page)
        (still_proc / "statm.new").write_text("1000 600 0 0 0 0 0")
        (still_proc / "statm.new").replace(still_proc / "statm")
    assert watch.before_bytes == 500 * page
    assert watch.peak_bytes == 900 * page
    assert "cannot be reset here" in watch.source


def test_a_system_that_is_not_linux_is_asked_by_psutil(tmp_path: Path) -> None:
    assert read_resident_bytes(tmp_path) == pytest.approx(read_resident_bytes(SELF), abs=SLACK)


def wait_for(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come true")


def test_the_sampler_ends_with_the_watch() -> None:
    with pytest.raises(KeyError), PeakWatch(sample_interval_s=0.001):
        raise KeyError("work went wrong")
    assert not [thread for thread in threading.enumerate() if thread.name == "memory sampler"]


# GPU


@dataclass
class FakeCuda:
    """Counts bytes as torch.cuda does: peaks stay until they are reset."""

    allocated: int = 1000
    peak: int = 9999
    reserved: int = 20000
    calls: list[str] = field(default_factory=list)

    def synchronize(self, device: Any) -> None:
        self.calls.append("synchronize")

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, device: Any) -> None:
        self.calls.append("reset")
        self.peak = self.allocated

    def memory_allocated(self, device: Any) -> int:
        return self.allocated

    def max_memory_allocated(self, device: Any) -> int:
        self.calls.append("read")
        return self.peak

    def max_memory_reserved(self, device: Any) -> int:
        return self.reserved

    def take(self, size: int) -> None:
        self.peak = max(self.peak, self.allocated + size)
        self.reserved = max(self.reserved, self.peak + 24)


def test_a_gpu_peak_is_reset_before_and_read_after_a_synchronization() -> None:
    cuda = FakeCuda()
    gpu = GpuPeak(accelerator=cuda, device="cuda:0")
    gpu.reset()
    cuda.take(300)
    gpu.read()
    assert cuda.calls == ["synchronize", "reset", "synchronize", "read"]
    found = aggregates(gpu.readings())
    assert found["gpu_memory_peak_bytes"].value == 1300
    assert found["gpu_memory_delta_bytes"].value == 300
    assert found["gpu_memory_reserved_peak_bytes"].value == 1324


def test_on_a_gpu_the_headline_is_what_tensors_took(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Generating(0)
    gpu = GpuPeak(accelerator=FakeCuda(), device="cuda:0")
    monkeypatch.setattr(memory, "_watch_gpu", lambda device: gpu)
    found = aggregates(MemoryProbe(passes=1, sample_interval_s=0.01).measure(workload))  # type: ignore[arg-type]
    assert found["peak_memory_bytes"].value == 1000
    assert "torch.cuda.max_memory_allocated" in found["peak_memory_bytes"].source


@pytest.mark.gpu
def test_a_real_gpu_counts_a_known_tensor() -> None:
    device = torch.device("cuda:0")
    gpu = GpuPeak(accelerator=torch.cuda, device=device)
    torch.ones(3 * BIG, dtype=torch.uint8, device=device)
    gpu.reset()
    torch.ones(BIG, dtype=torch.uint8, device=device)
    gpu.read()
    assert gpu.peak_bytes - gpu.before_bytes == BIG


# Cache and weights


def test_cache_bytes_per_token_are_those_of_the_configuration() -> None:
    found = aggregates(MemoryProbe(passes=1, sample_interval_s=0.01).measure(Generating(0)))  # type: ignore[arg-type]
    # Keys and values, 3 layers, 2 heads of 16 numbers, 4 bytes each.
    per_token = 2 * 3 * 2 * 16 * 4
    assert found["kv_cache_bytes_per_token"].value == per_token
    # 5 tokens of prompt and 3 of 4 new ones: the last is never fed back.
    assert found["kv_cache_bytes"].value == per_token * 2 * (5 + 3)


def test_an_encoders_keys_and_values_do_not_grow() -> None:
    config = T5Config(
        d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, vocab_size=64,
        decoder_start_token_id=0,
    )  # fmt: skip
    network = T5ForConditionalGeneration(config).eval()
    with watch_cache(network) as size:
        network.generate(torch.ones(3, 7, dtype=torch.long), max_new_tokens=4, min_new_tokens=4)
    per_token = 2 * 2 * 4 * 8 * 4
    assert size.bytes_per_token == per_token
    assert size.fixed_bytes == per_token * 3 * 7
    assert not network._forward_hooks


def test_a_model_without_a_cache_says_so() -> None:
    model = SimpleNamespace(network=nn.Linear(2, 2), has_fixed_cache=False)
    workload = SimpleNamespace(model=model, run=lambda index, **_: model.network(torch.ones(1, 2)))
    [reading] = memory.read_cache(workload)  # type: ignore[arg-type]
    assert (reading.value, reading.status) == (None, UNAVAILABLE)


def test_weights_by_part_add_up_to_the_whole() -> None:
    vision = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 7, bias=False))
    head = nn.Linear(7, 11, bias=False)
    language = nn.Embedding(11, 7)
    language.weight = head.weight
    network = nn.ModuleDict(
        {"vision": vision, "language": language, "head": head, "norm": nn.LayerNorm(2)}
    )
    parts = {
        "vision": [vision],
        "projector": [vision[1]],
        "text_encoder": [],
        "language": [language],
        "head": [head],
    }
    model = SimpleNamespace(network=network, parts=lambda: parts)
    found = {r.metric: r.value for r in read_weights(model)}  # type: ignore[arg-type]
    assert found == {
        "weights_vision_bytes": 3 * 5 * 4,
        "weights_projector_bytes": 5 * 7 * 4,
        "weights_text_encoder_bytes": 0,
        "weights_language_bytes": 7 * 11 * 4,
        "weights_head_bytes": 0,
        "weights_other_bytes": 2 * 2 * 4,
    }
    assert sum(found.values()) == sum(p.nbytes for p in network.parameters())
