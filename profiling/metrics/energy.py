"""Joules per sample: measured by counters, and estimated by a model beside them."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    COMPARED,
    COMPUTE,
    COUNT,
    EFFECTS,
    FIXED,
    GROWTH,
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

_ENERGY = ("energy",)
_joules = partial(Metric, unit="J", phase=TOTAL, better=LOWER, given_by=_ENERGY, from_times=True)
_detail = partial(
    Metric,
    phase=RUN,
    better=NEITHER,
    given_by=_ENERGY,
    when="the component's counter was read",
)
_source = partial(
    Metric, unit=COUNT, phase=TOTAL, better=NEITHER, given_by=(RECORD,), column=FIXED, kind=TEXT
)


def _phase(name: str) -> Metric:
    return _joules(name=f"{name}_energy_j", phase=name, title=f"energy per sample, {name}")


def _part(name: str, *, when: str = "") -> Metric:
    return _joules(
        name=f"energy_estimate_{name}_j",
        phase=RUN,
        title=f"energy per sample, {name}, estimate",
        when=when or "CodeCarbon gives an estimate",
        is_estimate=True,
    )


ENERGY = Group(
    title="Energy",
    text="""Joules per sample. On a GPU the source is the board's energy counter (NVML, Volta and
later), or else NVML's power, sampled and integrated, or else nothing. On a CPU it is RAPL's package
domains, all sockets together, or else nothing. The estimate by CodeCarbon's model has a column of
its own and never fills a gap. The board is found by the UUID of the device of the run.

The counter's update period is measured first (median of 20 gaps). A window holds whole passes for
at least 5 s and at least 50 updates. It is read from update to update, and idle time at both ends
is subtracted. There are at least 5 windows (`profiler=full`), and each starts at another phase of
the update period. What does not fit into the allowed time is not measured.

Sampled power is trusted less, because a board may average only a part of the time. Windows are
twice as long, for a period of 0.1 s. Two pauses of random length shift the passes of a window, so
that passes in step with the samples show up as windows that disagree. Half of every step between
two samples, whose moment is unknown, is added to the uncertainty. Above 2% there is no number.""",
    literature="""NVIDIA NVML API Reference (nvmlDeviceGetTotalEnergyConsumption: mJ since the
driver was loaded; nvmlDeviceGetPowerUsage: averaged over 1 s on Ampere, except GA100, and later);
Yang, Adamek and Armour, "Part-time power measurements: nvidia-smi's lack of attention",
arXiv:2312.02741 (some boards sample only 25% of the time); Linux kernel,
Documentation/power/powercap; Intel SDM vol. 3B, "Power and Thermal Management" (RAPL and its
wrap-around); Khan et al., "RAPL in action", ACM TOMPECS 3 (2018); CodeCarbon's documentation,
Methodology.""",
    entries=(
        Entry(
            metrics=(
                _joules(
                    name="energy_j",
                    title="energy per sample",
                    column=FIXED,
                    bounds=("energy_ci_low_j", "energy_ci_high_j"),
                    source_column="energy_source",
                    tables=frozenset({OVERVIEW, EFFECTS, COMPUTE, VARIANTS, COMPARED, GROWTH}),
                ),
            ),
            definition="joules per sample of the device that did the work, gross",
            method="mean over windows: NVML counter, or NVML power integrated; RAPL on a CPU; else"
            " `unavailable` with the reason and what to do about it",
            uncertainty="Student's t over windows plus one counter step: `energy_ci_low_j` to"
            " `energy_ci_high_j`; none above 10%, for integrated power 2%",
            limits="a GPU's board without its host; a CPU's package without board, disk and power"
            " supply; a board that is split (MIG) is measured as a whole: no number",
        ),
        Entry(
            metrics=(_source(name="energy_source", title="source of the energy"),),
            definition="the counter that was read",
            method="the source of `energy_j`",
            uncertainty="none",
            limits="empty where nothing was measured",
        ),
        Entry(
            metrics=(
                _joules(name="energy_ci_low_j", title="energy, low end", column=FIXED),
                _joules(name="energy_ci_high_j", title="energy, high end", column=FIXED),
            ),
            definition="95% interval of `energy_j`",
            method="Student's t over the windows",
            uncertainty="5 windows have 4 degrees of freedom",
            limits="excludes an error that all windows share (of the sensor, some percent)",
        ),
        Entry(
            metrics=(_joules(name="energy_net_j", title="energy per sample, net"),),
            definition="gross energy less idle power with the model loaded",
            method="mean of the idle power before and after",
            uncertainty="that of the gross energy and of both idle stretches",
            limits="`unavailable` where idle power drifted by more than 10% or the board throttled",
        ),
        Entry(
            metrics=(_phase("vision"), _phase("prefill"), _phase("decode")),
            definition="joules per sample by phase",
            method="windows of the vision encoder alone; of one new token, less vision; of whole"
            " passes, less those of one token",
            uncertainty="propagated, in the source",
            limits="a difference of similar numbers is uncertain; preprocessing counts as prefill,"
            " a projector inside the vision encoder as vision",
        ),
        Entry(
            metrics=(
                _joules(
                    name="energy_{component}_j",
                    phase=RUN,
                    title="energy per sample, {component}",
                    when="the device can have the component",
                ),
            ),
            definition="joules per sample of one component, gross",
            method="GPU board: NVML; CPU packages and memory: RAPL; each `unavailable` with its own"
            " reason",
            uncertainty="`energy_<component>_relative_uncertainty`",
            limits="on a GPU run the CPU packages serve other processes too",
        ),
        Entry(
            metrics=(
                _detail(
                    name="energy_{component}_relative_uncertainty",
                    unit=COUNT,
                    title="relative uncertainty, {component}",
                ),
            ),
            definition="half of the 95% interval over the value",
            method="Student's t over windows",
            uncertainty="that of five windows",
            limits="above 10% (integrated power: 2%) the energy is `unavailable`",
        ),
        Entry(
            metrics=(
                _detail(name="energy_{component}_window_s", unit="s", title="window, {component}"),
                _detail(
                    name="energy_{component}_windows", unit=COUNT, title="windows, {component}"
                ),
            ),
            definition="mean length and number of the windows",
            method="host clock; counted",
            uncertainty="exact",
            limits="a slow pass makes a window longer than requested",
        ),
        Entry(
            metrics=(
                _detail(
                    name="energy_{component}_updates", unit=COUNT, title="updates, {component}"
                ),
            ),
            definition="counter updates per window",
            method="window over update period",
            uncertainty="that of the period",
            limits="of the headline's counter only",
        ),
        Entry(
            metrics=(
                _detail(
                    name="energy_{component}_update_period_s",
                    unit="s",
                    title="update period, {component}",
                ),
            ),
            definition="time between two new values of the counter",
            method="median of 20 gaps, polled without pause",
            uncertainty="one poll, a few microseconds",
            limits="for integrated power 0.1 s is assumed, the longest documented period: constant"
            " power looks like power that is never updated",
        ),
        Entry(
            metrics=(
                _detail(
                    name="energy_{component}_idle_before_w",
                    unit="W",
                    title="idle power before, {component}",
                ),
                _detail(
                    name="energy_{component}_idle_after_w",
                    unit="W",
                    title="idle power after, {component}",
                ),
            ),
            definition="watts with the model loaded and nothing running",
            method="the same counter over 5 s after 2 s of rest",
            uncertainty="one counter step over the stretch",
            limits="clocks and fans may take longer to settle",
        ),
        Entry(
            metrics=(
                _joules(
                    name="energy_estimate_j",
                    title="energy per sample, estimate",
                    column=FIXED,
                    source_column="energy_estimate_source",
                    is_estimate=True,
                    tables=frozenset({EFFECTS, COMPUTE, VARIANTS, COMPARED, GROWTH}),
                ),
            ),
            definition="joules per sample by CodeCarbon's model of the machine",
            method="CodeCarbon offline: on a CPU run its CPU and RAM parts, on a GPU run also the"
            " one GPU",
            uncertainty="unknown: a model",
            limits="without a counter it uses the whole machine's load and nominal power: sleeping"
            " and working may get the same value",
        ),
        Entry(
            metrics=(
                _source(name="energy_estimate_source", title="source of the estimated energy"),
            ),
            definition="CodeCarbon's version and the parts it includes",
            method="the source of `energy_estimate_j`",
            uncertainty="none",
            limits="does not say how accurate the estimate is",
        ),
        Entry(
            metrics=(
                _part("cpu"),
                _part("ram"),
                _part("gpu", when="CodeCarbon gives an estimate of a GPU"),
            ),
            definition="the parts of the estimate",
            method="CodeCarbon",
            uncertainty="unknown",
            limits="the RAM part is a constant power by size",
        ),
    ),
)
