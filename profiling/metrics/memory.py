"""Peaks of memory while batches run, and the sizes of weights and cache."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    COMPARED,
    COMPUTE,
    COUNT,
    EFFECTS,
    EXPERIMENT,
    FIXED,
    LOWER,
    NEITHER,
    OVERVIEW,
    RECORD,
    RUN,
    TEXT,
    TOTAL,
    VARIANTS,
    Entry,
    Group,
    Metric,
)

_bytes = partial(Metric, unit="bytes", better=LOWER)
_peak = partial(_bytes, phase=TOTAL, given_by=("memory",))
_loading = partial(Metric, phase=RUN, better=LOWER, given_by=(EXPERIMENT,))

MEMORY = Group(
    title="Memory",
    text="",
    literature="""Linux kernel, Documentation/filesystems/proc.rst (`clear_refs` 5 resets `VmHWM`;
`statm`); glibc's malloc_trim(3); PyTorch, "CUDA semantics: Memory management"
(`max_memory_allocated`, `max_memory_reserved`).""",
    entries=(
        Entry(
            metrics=(
                _peak(
                    name="peak_memory_bytes",
                    title="peak memory",
                    column=FIXED,
                    source_column="peak_memory_source",
                    tables=frozenset({OVERVIEW, EFFECTS, COMPUTE, VARIANTS, COMPARED}),
                ),
            ),
            definition="highest memory while batches run: allocated on a GPU, resident on a CPU",
            method="GPU: the allocator's peak; CPU: the kernel's high-water mark, or else samples"
            " every 10 ms; reset before",
            uncertainty="GPU: exact; CPU: about a megabyte of the interpreter's own",
            limits="excludes a GPU's driver context and other allocators; resident memory includes"
            " shared libraries",
        ),
        Entry(
            metrics=(
                Metric(
                    name="peak_memory_source",
                    unit=COUNT,
                    phase=TOTAL,
                    title="source of the peak memory",
                    better=NEITHER,
                    given_by=(RECORD,),
                    column=FIXED,
                    kind=TEXT,
                ),
            ),
            definition="which of these it is",
            method="the source of `peak_memory_bytes`",
            uncertainty="none",
            limits="none",
        ),
        Entry(
            metrics=(
                _peak(
                    name="cpu_memory_delta_bytes", title="CPU memory above the model", column=FIXED
                ),
                _peak(name="cpu_memory_peak_bytes", title="peak CPU memory", column=FIXED),
            ),
            definition="peak of resident memory, and its rise above the loaded model before the"
            " passes",
            method="the kernel's high-water mark, or else samples",
            uncertainty="about a megabyte",
            limits="freed heap memory is returned to the system before, as far as the C library"
            " can",
        ),
        Entry(
            metrics=(
                _peak(name="cpu_memory_sampled_peak_bytes", title="peak CPU memory, sampled"),
            ),
            definition="the same peak by a sampling thread",
            method="resident memory every 10 ms",
            uncertainty="misses peaks that are shorter",
            limits="a cross-check, and the fallback",
        ),
        Entry(
            metrics=(
                _peak(
                    name="gpu_memory_delta_bytes", title="GPU memory above the model", column=FIXED
                ),
                _peak(name="gpu_memory_peak_bytes", title="peak GPU memory", column=FIXED),
            ),
            definition="peak of bytes allocated by tensors, and its rise above the loaded model",
            method="torch's allocator, reset before",
            uncertainty="blocks of 512 bytes",
            limits="`unavailable` on a CPU run; excludes exported networks with their own"
            " allocator",
        ),
        Entry(
            metrics=(
                _peak(
                    name="gpu_memory_reserved_peak_bytes",
                    title="peak GPU memory, reserved",
                    when="the run is on a GPU",
                ),
            ),
            definition="peak of bytes held by the allocator",
            method="torch's allocator",
            uncertainty="exact",
            limits="includes what is cached for reuse",
        ),
        Entry(
            metrics=(
                _bytes(
                    name="model_bytes",
                    is_exact=True,
                    phase=RUN,
                    title="model size",
                    given_by=(EXPERIMENT,),
                    column=FIXED,
                    tables=frozenset({COMPUTE, VARIANTS}),
                ),
            ),
            definition="parameters and buffers, shared ones once",
            method="sum over tensors as they are stored",
            uncertainty="exact",
            limits="padding of quantized storage counts as stored; a part that a runtime runs"
            " counts with the size of its graph's files, and weights in half precision take at"
            " least twice that in memory where they are converted when the graph is opened",
        ),
        Entry(
            metrics=(
                _bytes(
                    name="weights_{part}_bytes",
                    is_exact=True,
                    phase=RUN,
                    title="weights, {part}",
                    given_by=("memory",),
                    when="the engine knows the network's parts",
                ),
            ),
            definition="the same by part; tensors shared by two parts belong to the first",
            method="sum over the part's tensors",
            uncertainty="exact",
            limits="a projector inside the vision encoder counts as projector; `other` is what no"
            " part holds",
        ),
        Entry(
            metrics=(
                _bytes(
                    name="kv_cache_bytes",
                    is_exact=True,
                    phase="decode",
                    title="KV cache",
                    given_by=("memory",),
                    when="the network returns a cache",
                ),
                _bytes(
                    name="kv_cache_bytes_per_token",
                    is_exact=True,
                    phase="decode",
                    title="KV cache per token",
                    given_by=("memory",),
                ),
            ),
            definition="keys and values after one batch; those of one token of one sequence",
            method="the tensors of the cache that the network returned",
            uncertainty="exact",
            limits="a text encoder's states count in the first and not in the second",
        ),
        Entry(
            metrics=(
                _loading(name="load_s", unit="s", title="loading", column=FIXED, from_times=True),
            ),
            definition="time to load the model, without imports",
            method="`perf_counter` around loading, in the process that loaded it",
            uncertainty="one measurement: no interval",
            limits="a file in the system's page cache loads faster",
        ),
        Entry(
            metrics=(
                _loading(name="load_peak_bytes", unit="bytes", title="peak memory while loading"),
            ),
            definition="peak of resident memory while loading, above that before",
            method="the kernel's high-water mark, or else samples",
            uncertainty="about a megabyte",
            limits="pages of mapped weight files count when they are touched",
        ),
    ),
)
