"""What the charts of the page need besides its table: sweeps, their laws, and rooflines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from profiling import metrics
from profiling.metrics import SUMMARY_COLUMNS
from profiling.report.draw.palette import COLOURS
from profiling.report.read.keys import list_differing
from profiling.report.read.runs import Run
from profiling.report.read.sweeps import (
    TOKENS_OF,
    Sweep,
    describe_value,
    find_sweeps,
    growing_keys,
    is_timed,
    name_key,
    name_machine,
)
from profiling.report.say import sentences
from profiling.report.say.limits import Place, find_places
from profiling.report.say.marks import mark_weights
from profiling.report.write.columns import Scale, place_columns, share_scale

_LATENCY = "latency_s"
# Of each size the longest sweeps, the plain model's first; fitting takes some 20 ms each.
MOST_LAWS = 24
_NOT_FITTED = f"no law was fitted; this page has those of the {MOST_LAWS} longest sweeps"
# Of the fitted law: enough for a smooth curve.
_STEPS = 32


def chart_growth(runs: Sequence[Run], latency: Scale) -> list[dict[str, Any]]:
    """For each size that was swept its curves, each with the positions of its runs."""
    timed = [run for run in runs if is_timed(run)]
    places = {run.name: position for position, run in enumerate(runs)}
    charts = []
    for key in growing_keys(timed):
        sweeps = find_sweeps([run for run in timed if run[key] is not None], key)
        if sweeps:
            names = _name_sweeps(sweeps, key)
            charts.append(
                {
                    "key": key,
                    "title": name_key(key),
                    "axes": _list_axes(key, sweeps),
                    "curves": [
                        _curve(sweep, name, places, latency if number < MOST_LAWS else None)
                        for number, (sweep, name) in enumerate(zip(sweeps, names, strict=True))
                    ],
                }
            )
    return charts


def _list_axes(key: str, sweeps: Sequence[Sweep]) -> list[str]:
    """What a cost can be drawn against: the key, and the tokens that it stands for."""
    tokens = TOKENS_OF.get(key)
    runs = [run for sweep in sweeps for run in sweep.runs]
    if tokens is None or any(run.number(tokens) is None for run in runs):
        return [key]
    return [key, tokens]


def _name_sweeps(sweeps: Sequence[Sweep], key: str) -> list[str]:
    """The model of each sweep, and what else tells it from the others."""
    firsts = [sweep.runs[0] for sweep in sweeps]
    differing = [
        name
        for name in list_differing([run.settings for run in firsts])
        if name not in (key, "model", "weights") and name in (*SUMMARY_COLUMNS, *firsts[0].distinct)
    ]
    machines = [name_machine(run) for run in firsts]
    are_several = len(set(machines)) > 1
    return [
        " · ".join(
            [
                str(run["model"]) + mark_weights(run),
                *(describe_value(name, run[name]) for name in differing if run[name] is not None),
                *([machine] if are_several else []),
            ]
        )
        for run, machine in zip(firsts, machines, strict=True)
    ]


def _curve(
    sweep: Sweep, name: str, places: dict[str, int], latency: Scale | None
) -> dict[str, Any]:
    """A curve with its law and what is said of it, where a unit for that is given."""
    curve = {"name": name, "runs": [places[run.name] for run in sweep.runs]}
    if latency is None:
        return curve | {"said": _NOT_FITTED, "law": None}
    said = [sentences.say_growth(sweep), sentences.say_law(sweep), sentences.say_crossing(sweep)]
    return curve | {"said": " ".join(filter(None, said)), "law": _draw_law(sweep, latency)}


def _draw_law(sweep: Sweep, latency: Scale) -> dict[str, Any] | None:
    """Points of the fitted law of the latency, over the column that it was fitted to."""
    unit, growth = sentences.fit(sweep, _LATENCY)
    tokens = TOKENS_OF.get(sweep.key)
    axis = tokens if tokens is not None and unit == "tokens" else sweep.key
    if growth is None or not growth.is_determined or unit == "pixels":
        return None
    sizes = sorted(size for run in sweep.runs if (size := run.number(axis)) is not None)
    step = (sizes[-1] - sizes[0]) / _STEPS
    grid = [sizes[0] + step * number for number in range(_STEPS + 1)]
    return {"axis": axis, "points": [[size, growth.at(size) / latency.factor] for size in grid]}


# Rooflines


def chart_rooflines(runs: Sequence[Run]) -> dict[str, Any]:
    """For each run its phases under the limits of its machine; one unit of rate for all."""
    found = [find_places(run) for run in runs]
    rates = [place.peak_flops_per_s for places in found for place in places]
    scale = share_scale(metrics.find("flops").unit, rates)
    return {
        "unit": f"{scale.unit}/s",
        "runs": [_roofline(places, scale) for places in found],
    }


def _roofline(places: Sequence[Place], scale: Scale) -> dict[str, Any] | None:
    if not places:
        return None
    top, columns = places[0], place_columns(places)
    return {
        "peak": top.peak_flops_per_s / scale.factor,
        "bandwidth": top.peak_bytes_per_s / scale.factor,
        "heads": [column.head for column in columns],
        "places": [
            {
                "name": place.phase,
                "colour": COLOURS[place.phase],
                "x": place.intensity,
                "y": place.reached_flops_per_s / scale.factor,
                "cells": [column.cells[row] for column in columns],
            }
            for row, place in enumerate(places)
        ],
    }
