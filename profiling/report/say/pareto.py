"""The Pareto front: the runs that no other run dominates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from profiling import metrics
from profiling.report.read.plain_runs import identify_machine
from profiling.report.read.runs import Run, without_cache
from profiling.report.say import escape


def find_front(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Positions of the points that no other point dominates; less is better in every coordinate.

    Points are visited in order, so that a point which dominates another one comes before it, and
    only the front found so far has to be compared.
    """
    front: list[int] = []
    for position in sorted(range(len(points)), key=lambda i: points[i]):
        mine = points[position]
        if not any(_dominates(points[other], mine) for other in front):
            front.append(position)
    return sorted(front)


def _dominates(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(a <= b for a, b in zip(other, mine, strict=True))


def group_comparable(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs whose quality and cost can be compared: same samples, same machine."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        shared = ("dataset", "weights", "device", "max_new_tokens", "num_samples")
        key = [str(run[column]) for column in shared]
        machine = sorted(identify_machine(run.record).items())
        groups[str([*key, machine, _identify_samples(run)])].append(run)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].name))


def _identify_samples(run: Run) -> object:
    """The digest of the samples' content; of records without one, what was answered for each."""
    digests = run.record.run.get("digests")
    digest = digests.get("samples") if isinstance(digests, Mapping) else None
    if digest is not None:
        return digest
    lines = without_cache(run.record).answers
    return sorted(f"{line.get('id')}: {line.get('references')}" for line in lines)


def costs_of(run: Run, *, with_energy: bool) -> tuple[float, ...] | None:
    """Latency per sample, word error rate and, if asked for, energy; None where one is missing."""
    latency, batch, errors = (run.number(name) for name in ("latency_s", "batch_size", "wer"))
    if latency is None or not batch or errors is None:
        return None
    if not with_energy:
        return (latency / batch, errors)
    energy = run.number("energy_j")
    return None if energy is None else (latency / batch, errors, energy)


def front_of(runs: Sequence[Run], *, with_energy: bool) -> list[Run]:
    """The runs on the front, the fastest first."""
    priced = [(cost, run) for run in runs if (cost := costs_of(run, with_energy=with_energy))]
    front = [priced[position] for position in find_front([cost for cost, _ in priced])]
    return [run for _, run in sorted(front, key=lambda pair: (pair[0], pair[1].name))]


def say_front(group: Sequence[Run], front: Sequence[Run], *, with_energy: bool) -> str:
    """How many runs are on the front, by their values alone: no interval decides that."""
    latency = f"{metrics.find('latency_s').title} per sample"
    others = [metrics.find(name).words for name in ("wer", *(["energy_j"] if with_energy else []))]
    *first, last = (latency, *others)
    return (
        f"On {escape.markdown(group[0]['dataset'])}, {len(front)} of {len(group)} runs are"
        f" dominated by no other run in the measured values of {', '.join(first)} and {last}."
    )
