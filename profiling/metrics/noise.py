"""Whether the machine was quiet enough for the times to be trusted."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    COUNT,
    FIXED,
    FLAG,
    LOWER,
    NEITHER,
    PER_SECOND,
    RECORD,
    RUN,
    TEXT,
    Entry,
    Group,
    Metric,
)

_verdict = partial(Metric, unit=COUNT, phase=RUN, better=NEITHER, given_by=(RECORD,), column=FIXED)
_figure = partial(Metric, unit=COUNT, phase=RUN, better=LOWER, given_by=("noise",))
_STAT = "the kernel has /proc/stat"

NOISE = Group(
    title="Noise",
    text="""Watched while latency, memory and energy are measured; each figure is the highest of the
three, and its source names the one. The limits are in `conf/profiler/`.
With `strict=true` a noisy run is not recorded: it ends as `failed`, with the reason.""",
    literature="""Linux kernel, Documentation/accounting/psi.rst; proc(5) (`stat`, `loadavg`);
getrusage(2); NVML API Reference, clocks event reasons.""",
    entries=(
        Entry(
            metrics=(_verdict(name="noisy", title="noisy", kind=FLAG),),
            definition="true where the machine was too busy, or the GPU throttled, for the times to"
            " be trusted",
            method="any of the figures below above its limit",
            uncertainty="a limit: close to it the verdict is a matter of chance",
            limits="misses what disturbs memory or caches without using a core",
        ),
        Entry(
            metrics=(_verdict(name="noise_reason", title="noise", kind=TEXT),),
            definition="what was found, in words",
            method="all figures above their limit",
            uncertainty="none",
            limits="empty on a quiet machine",
        ),
        Entry(
            metrics=(
                _figure(name="noise_foreign_share", title="CPU time of others", when=_STAT),
                _figure(name="noise_steal_share", title="stolen CPU time", when=_STAT),
            ),
            definition="shares of all cores' time used by other processes, and by the hypervisor",
            method="`/proc/stat` less this process's own time",
            uncertainty="ticks of 10 ms",
            limits="a container may show its host's figures; no row without `/proc/stat`",
        ),
        Entry(
            metrics=(
                _figure(
                    name="noise_pressure_share",
                    title="CPU pressure",
                    when="the kernel counts pressure",
                ),
            ),
            definition="share of the time in which some task waited for a core",
            method="`/proc/pressure/cpu`, `some`",
            uncertainty="microseconds",
            limits="no row where the kernel does not count it; own threads can wait too",
        ),
        Entry(
            metrics=(
                _figure(
                    name="noise_involuntary_switches_per_s",
                    unit=PER_SECOND,
                    title="involuntary switches per second",
                ),
            ),
            definition="involuntary context switches per second of CPU time, of wall time where"
            " that is longer",
            method="getrusage",
            uncertainty="exact",
            limits="a process with more threads than cores preempts itself",
        ),
        Entry(
            metrics=(_figure(name="noise_waiting_share", title="waiting time"),),
            definition="share of the time in which the process waited for a core",
            method="the larger of wall time without CPU time, and of run-queue delay over run-queue"
            " delay plus CPU time, all threads together (`/proc/self/task/*/schedstat`)",
            uncertainty="that of the clocks",
            limits="limited on CPU runs only: on a GPU run waiting is normal; without"
            " schedstat several threads hide each other's waiting",
        ),
        Entry(
            metrics=(_figure(name="noise_load_per_core", title="load per core"),),
            definition="load average of one minute, per core",
            method="getloadavg, the higher of before and after",
            uncertainty="lags by a minute",
            limits="includes the run's own work",
        ),
        Entry(
            metrics=(
                _figure(
                    name="noise_gpu_clock_hz",
                    unit="Hz",
                    title="GPU clock",
                    better=NEITHER,
                    when="the run is on a GPU that NVML can read",
                ),
                _figure(
                    name="noise_gpu_clock_min_hz",
                    unit="Hz",
                    title="GPU clock, minimum",
                    better=NEITHER,
                    when="the run is on a GPU that NVML can read",
                ),
            ),
            definition="median and lowest clock while measuring",
            method="NVML every 0.5 s",
            uncertainty="misses shorter drops",
            limits="no row without a GPU; `unavailable` where the board does not tell its clock",
        ),
        Entry(
            metrics=(
                _figure(
                    name="noise_gpu_throttled_share",
                    title="GPU throttled",
                    when="the run is on a GPU that NVML can read",
                ),
            ),
            definition="share of the looks at the GPU at which it throttled: slowed down by heat or"
            " by the hardware",
            method="NVML's clocks event reasons every 0.5 s, by their older name where the driver"
            " lacks the present one",
            uncertainty="misses shorter ones",
            limits="no row without a GPU; `unavailable` where the driver does not tell; a power cap"
            " is no throttling",
        ),
    ),
)
