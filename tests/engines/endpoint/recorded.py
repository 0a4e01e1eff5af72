"""The readings that a server adds to a record."""

from __future__ import annotations

from collections.abc import Iterator

from profiling.engines.endpoint.engine import EndpointEngine
from profiling.engines.engine import Loading
from profiling.engines.workload import Workload
from profiling.records import Reading
from profiling.samples.samples import full_batches, load_samples
from tests.composing import PROJECT
from tests.engines.endpoint.scripted_server import serving


def from_a_server() -> Iterator[Reading]:
    samples = load_samples(PROJECT / "datasets" / "textvqa", count=4, at_most=None)
    with serving() as server:
        engine = EndpointEngine.load(server.point())
        workload = Workload(
            engine=engine,
            batches=full_batches(samples, 2),
            img_size=112,
            prompt_len=None,
            max_new_tokens=3,
            preload=True,
        )
        workload.run(0)
        loading = Loading(load_s=0.0, peak_bytes=0, peak_source="")
        yield from engine.readings(workload, loading)
        engine.close()
