"""`profiling.predict`: what points cost, and the least time on a device, without running them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiling.api.measuring import one_line_errors
from profiling.api.overriding import write_overrides
from profiling.cost import list_rows, read_question

if TYPE_CHECKING:
    import pandas


def predict(*overrides: str, **keys: object) -> pandas.DataFrame:
    """Count the FLOPs of points by phase or, with `gpu`, predict their least time on a device.

    The keys are those of `python -m profiling.cost`, and take lists: `predict(model="llava",
    img_size=[224, 336], gpu=["h100", "l4"])`. A row for each count, or for each device; for
    both where `convention` is given beside `gpu`.
    """
    import pandas

    with one_line_errors():
        question = read_question(write_overrides(overrides, keys))
        return pandas.DataFrame(list_rows(question))
