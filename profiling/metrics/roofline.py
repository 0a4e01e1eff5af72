"""How much of the machine's peaks each phase reaches, and the peaks themselves."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import (
    COMPUTE,
    COUNT,
    COUNTED_PHASES,
    FIXED,
    HIGHER,
    LOWER,
    NEITHER,
    RUN,
    SHARE,
    Entry,
    Group,
    Metric,
)

_ROOFLINE = ("roofline",)
_placed = partial(
    Metric,
    phase="{phase}",
    given_by=_ROOFLINE,
    when="the phase's time, operations and traffic are known",
)
_peak = partial(Metric, phase=RUN, better=NEITHER, given_by=_ROOFLINE)


def _utilization(short: str, peak: str, phase: str, *, is_column: bool) -> Metric:
    return Metric(
        name=f"{short}_{phase}",
        unit=COUNT,
        phase=phase,
        title=f"of peak {peak}, {phase}",
        better=HIGHER,
        given_by=_ROOFLINE,
        column=FIXED if is_column else None,
        shown_as=SHARE,
        from_times=True,
        tables=frozenset({COMPUTE}) if is_column else frozenset(),
    )


def _utilizations(short: str, peak: str, *, column: str) -> tuple[Metric, ...]:
    phases = sorted(COUNTED_PHASES, key=lambda phase: phase != column)
    return tuple(_utilization(short, peak, phase, is_column=phase == column) for phase in phases)


ROOFLINE = Group(
    title="Roofline",
    text="",
    literature="""Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; Chowdhery et al.,
"PaLM", arXiv:2204.02311, appendix B, for MFU; Databricks, "LLM inference performance engineering:
best practices" (2023), for MBU; the vendors' data sheets that the sources name.""",
    entries=(
        Entry(
            metrics=_utilizations("mfu", "FLOP/s", column="prefill"),
            definition="model FLOPs utilization: share of the peak FLOP/s that a phase reached",
            method="`flops_<phase>` over the phase's time and the measured peak",
            uncertainty="that of the time and of the peak (some percent)",
            limits="operations are of the first full batch, times of all; a peak that was measured"
            " on a busy machine is too low, and the share too high",
        ),
        Entry(
            metrics=_utilizations("mbu", "bytes/s", column="decode"),
            definition="memory bandwidth utilization: share of the peak bytes/s that a phase"
            " reached",
            method="`moved_<phase>_bytes` over the phase's time and the measured peak",
            uncertainty="as above",
            limits="weights that fit into a cache can exceed 1, which makes it `unavailable`;"
            " activations are not included",
        ),
        Entry(
            metrics=(
                _placed(
                    name="moved_{phase}_bytes",
                    unit="bytes",
                    is_exact=True,
                    better=LOWER,
                    title="bytes moved, {phase}",
                ),
            ),
            definition="least traffic: weights once per forward, the cache written and read",
            method="counted on the dense copy, sizes as stored",
            uncertainty="exact for what is counted",
            limits="a lower bound: excludes activations and repeated reads",
        ),
        Entry(
            metrics=(
                _placed(
                    name="intensity_{phase}",
                    unit="FLOP/byte",
                    better=NEITHER,
                    title="arithmetic intensity, {phase}",
                ),
            ),
            definition="operations per byte moved",
            method="the two above",
            uncertainty="as above",
            limits="an upper bound, since the traffic is a lower bound",
        ),
        Entry(
            metrics=(
                _placed(
                    name="least_{phase}_s", unit="s", better=NEITHER, title="least time, {phase}"
                ),
            ),
            definition="least time that a phase can take on this device",
            method="the longer of operations over peak and bytes over peak; the source says which",
            uncertainty="that of the peaks",
            limits="small parts cannot fill the device: a large distance does not mean bad code",
        ),
        Entry(
            metrics=(_peak(name="peak_flops_per_s", unit="FLOP/s", title="peak FLOP/s"),),
            definition="the fastest product of a linear layer in the network's dtype",
            method="squares with sides of 64, 128, ... and layers with 128, 256 and 512 rows,"
            " random values; on a CPU also the fastest one with half of the threads; the highest"
            " rate; kept by device, driver, kernel, threads and torch version",
            uncertainty="the best of many repeats: biased upwards",
            limits="other shapes are slower; `unavailable`, and measured again by the next run,"
            " where the noise gate found the machine busy or a phase of this run was faster",
        ),
        Entry(
            metrics=(_peak(name="peak_bytes_per_s", unit="bytes/s", title="peak bytes/s"),),
            definition="the fastest copy, bytes read plus bytes written",
            method="256 MiB copied on the device",
            uncertainty="as above",
            limits="on a CPU one thread may not fill the memory channels",
        ),
        Entry(
            metrics=(
                _peak(
                    name="peak_flops_per_s_data_sheet",
                    unit="FLOP/s",
                    title="peak FLOP/s, data sheet",
                    when="the device is in the table of data sheets, and its dtype there",
                ),
                _peak(
                    name="peak_bytes_per_s_data_sheet",
                    unit="bytes/s",
                    title="peak bytes/s, data sheet",
                    when="the device is in the table of data sheets",
                ),
            ),
            definition="the vendor's figures, dense",
            method="table by the driver's name of the device; the source names the document",
            uncertainty="the vendor's",
            limits="no row for devices that are not in the table",
        ),
    ),
)
