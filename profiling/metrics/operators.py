"""Where the time inside a phase went: one pass under a profiler."""

from __future__ import annotations

from functools import partial

from profiling.metrics.declaration import EXPERIMENT, LOWER, TOTAL, Entry, Group, Metric

_time = partial(
    Metric,
    unit="s",
    phase=TOTAL,
    better=LOWER,
    given_by=(EXPERIMENT,),
    when="`trace=true`",
    from_times=True,
)

OPERATORS = Group(
    title="Operators",
    text="""With `trace=true` one more pass of the first batch runs under the engine's profiler. It
is not among the timed passes: the profiler makes it slower, most where there are many short
operators. The whole trace is in `trace.json`, which Perfetto and `chrome://tracing` open.""",
    literature="""PyTorch, torch.profiler (self CPU and device time of events).""",
    entries=(
        Entry(
            metrics=(_time(name="operator_s", title="operator"),),
            definition="an operator's own time in a phase, without that of the operators it calls,"
            " all calls with the same shapes in the same module (of any layer) together",
            method="`torch.profiler` with every module marked, and ONNX Runtime's own profile of"
            " graphs; the ten slowest of each phase, by `repeat`; `source` names operator, shapes,"
            " module and calls",
            uncertainty="one pass; the profiler adds about a microsecond a call",
            limits="kernel time on a GPU, elsewhere the time of the calling thread, in which other"
            " programs may have run; what other runtimes than ONNX Runtime do in a graph, and any"
            " on a GPU, is outside of operators; no row for compiled steps and for engines without"
            " a profiler",
        ),
        Entry(
            metrics=(_time(name="layer_s", title="layer kind"),),
            definition="the time of a phase by what the module does: attention, mlp, norm,"
            " embedding, head, other",
            method="the same times, summed by the names of modules and of their classes",
            uncertainty="one pass",
            limits="what modules of other names do is under other, and so are nodes of a graph that"
            " the runtime fused and named anew",
        ),
    ),
)
