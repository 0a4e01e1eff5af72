"""Prints what points cost, without running them: python -m profiling.cost [key=value …].

FLOPs and bytes by phase, weights by part, and the cache, at the real size of any family, with no
GPU, no weights and next to no memory. The keys are those of main.py, and take lists
(img_size=224,448); weights=random is the default, since it stands for the real architecture. Keys
of this command alone: convention=exact|macs|fastv|fastv_all|pyramiddrop|calflops counts as papers
and tools do, gpu=h100 predicts the least time on a device from its data sheet, prompt_tokens=N and
visual_tokens=N count with other numbers of tokens than the processor makes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from profiling.arguments import Parser, ending_quietly, print_anything, refuse
from profiling.costs.phase_costs import PhaseCosts
from profiling.engines.trace import COUNTED_PHASES
from profiling.errors import ConfigError, Unsupported
from profiling.points.configuration import compose_config, read_point
from profiling.points.help import describe_cost
from profiling.points.overrides import check_overrides, explain
from profiling.points.point import Point
from profiling.points.sweeping import list_values
from profiling.probes.flops import read_costs
from profiling.records import Reading
from profiling.samples.hub import HubError

if TYPE_CHECKING:
    from profiling.costs.ledger import Count
    from profiling.costs.prediction import Prediction
    from profiling.engines.transformers.point_costs import Lengths, PointCosts

GIGA = 1e9
_WEIGHTS = "weights="
_EXACT = "exact"
_LONGEST_PROMPT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the command line asks for: points, and how each of them is counted."""

    points: Sequence[Point]
    conventions: Sequence[str] = ()
    gpus: Sequence[str] = ()
    prompt_tokens: Sequence[int | None] = (None,)
    visual_tokens: Sequence[int | None] = (None,)
    explained: bool = False
    csv: Path | None = None
    json: Path | None = None

    @property
    def is_plain(self) -> bool:
        """One point and nothing besides: the answer is a description."""
        asked = (self.conventions, self.gpus, self.explained, self.csv, self.json)
        lengths = {*self.prompt_tokens, *self.visual_tokens}
        return len(self.points) == 1 and lengths == {None} and not any(asked)


@dataclass(kw_only=True)
class Answer:
    """Counts, and what devices would take."""

    counts: list[Count] = field(default_factory=list)
    predictions: list[tuple[Mapping[str, Any], Prediction]] = field(default_factory=list)


def main() -> None:
    print_anything()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_cost())
        return
    try:
        question = read_question(sys.argv[1:])
        lines = list(describe_question(question))
    except ConfigError as error:
        refuse(error)
    except (HubError, Unsupported) as error:
        sys.exit(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    with ending_quietly():
        print("\n".join(lines))


# What is asked


def read_question(arguments: Sequence[str]) -> Question:
    """Points and the keys of this command; every list is one of values to count in turn."""
    options = _parser().parse_intermixed_args(list(arguments))
    values = _read_lists(options.keys)
    conventions, gpus = values.pop("convention", []), values.pop("gpu", [])
    prompts, visuals = (_read_lengths(values, name) for name in ("prompt_tokens", "visual_tokens"))
    check_names(conventions, gpus)
    lists = [[f"{key}={value}" for value in listed] for key, listed in values.items()]
    return Question(
        points=[*_read_points(list(product(*lists)))],
        conventions=conventions,
        gpus=gpus,
        prompt_tokens=prompts,
        visual_tokens=visuals,
        explained=options.explain,
        csv=options.csv,
        json=options.json,
    )


def _parser() -> Parser:
    parser = Parser(prog="python -m profiling.cost", description=__doc__)
    parser.add_argument("keys", nargs="*", metavar="key=value")
    parser.add_argument("--explain", action="store_true", help="every line that is counted")
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def _read_lists(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key; the last one typed counts."""
    check_overrides([one for one in arguments if one.partition("=")[0] not in _OWN_KEYS])
    return list_values(arguments)


_OWN_KEYS = ("convention", "gpu", "prompt_tokens", "visual_tokens")


def _read_lengths(values: dict[str, list[str]], name: str) -> list[int | None]:
    """The lengths that were typed; None stands for what the processor makes."""
    typed: list[int | None] = [_read_length(name, text) for text in values.pop(name, [])]
    return typed or [None]


def _read_length(name: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= _LONGEST_PROMPT:
        raise ConfigError(name, text, f"allowed is a whole number from 1 to {_LONGEST_PROMPT}")
    return int(text)


def check_names(conventions: Sequence[str], gpus: Sequence[str]) -> None:
    """Refuse an unknown convention or device before anything is counted."""
    from profiling.costs.conventions import find_convention
    from profiling.machine.data_sheets import choose_data_sheet

    for name in conventions:
        find_convention(name)
    for name in gpus:
        choose_data_sheet(name)


def read_arguments(arguments: Sequence[str]) -> Point:
    """A point; its device is not used, so it may be one that this machine lacks."""
    check_overrides(arguments)
    (point,) = _read_points([arguments])
    return point


def _read_points(jobs: Sequence[Sequence[str]]) -> Iterator[Point]:
    for arguments in jobs:
        chosen = [] if any(a.startswith(_WEIGHTS) for a in arguments) else [f"{_WEIGHTS}random"]
        yield read_point(compose_config([*chosen, *arguments]), device="cpu", cores=1)


# What is answered


def describe_question(question: Question) -> Iterator[str]:
    """The answer as lines of text; files that are asked for are written."""
    if question.is_plain:
        yield from describe(question.points[0])
        return
    from profiling.costs.ledger import write_counts, write_entries

    answer = _answer(question)
    _write_files(question, answer)
    yield from write_counts(answer.counts)
    if question.explained:
        for count in answer.counts:
            yield ""
            yield from write_entries(count)
    for settings, prediction in answer.predictions:
        yield ""
        yield from _describe_prediction(settings, prediction)


def _answer(question: Question) -> Answer:
    from profiling.costs.conventions import CONVENTIONS
    from profiling.costs.ledger import Count
    from profiling.engines.transformers.point_costs import Lengths, shape_point

    answer = Answer()
    names = question.conventions or (list(CONVENTIONS) if question.explained else [_EXACT])
    for point, prompt, visual in product(
        question.points, question.prompt_tokens, question.visual_tokens
    ):
        lengths = Lengths(prompt_tokens=prompt, visual_tokens=visual)
        shape = shape_point(point, lengths=lengths)
        settings = _settings(point, shape.geometry.prompt_tokens, shape.visual_tokens)
        counted = shape.counted()
        answer.counts += [
            Count(
                settings=settings,
                convention=CONVENTIONS[name],
                entries=tuple(CONVENTIONS[name].lines(counted)),
            )
            for name in names
        ]
        answer.predictions += [(settings, one) for one in _predict(question.gpus, point, lengths)]
    return answer


def _settings(point: Point, prompt_tokens: int, visual_tokens: Sequence[int]) -> dict[str, Any]:
    return {
        "model": point.model,
        "weights": point.weights,
        "optimization": "+".join(point.optimization),
        "img_size": point.img_size,
        "num_pictures": point.num_pictures,
        "num_frames": point.num_frames,
        "batch_size": point.batch_size,
        "new_tokens": point.max_new_tokens,
        "prompt_tokens": prompt_tokens,
        "visual_tokens": max(visual_tokens),
    }


def _predict(gpus: Sequence[str], point: Point, lengths: Lengths) -> Iterator[Prediction]:
    if not gpus:
        return
    from profiling.costs.prediction import Needed, predict, shares_reached
    from profiling.engines.transformers.point_costs import count_point

    costs = count_point(point, lengths=lengths)
    needed = Needed(
        weights=costs.weight_bytes,
        cache=costs.full_cache_bytes,
        activations=costs.activation_bytes,
    )
    reached = shares_reached(Path(point.results_dir), model=point.model, weights=point.weights)
    for gpu in gpus:
        yield predict(
            gpu,
            costs.phases,
            dtype=costs.dtype,
            needed=needed,
            reached=reached,
            uncertain=costs.uncertain,
        )


def _describe_prediction(settings: Mapping[str, Any], prediction: Prediction) -> Iterator[str]:
    from profiling.costs.ledger import tabulate

    point = ", ".join(f"{settings[name]}" for name in ("model", "optimization"))
    yield (
        f"{prediction.device}: {point}, img_size={settings['img_size']},"
        f" {settings['prompt_tokens']} prompt tokens, {settings['new_tokens']} new tokens,"
        f" batch {settings['batch_size']}, {prediction.dtype}"
    )
    yield f"data sheet: {prediction.sheet.document}"
    yield from tabulate([_phase_row(phase) for phase in prediction.phases])
    likely = prediction.likely_s
    yield f"total: at least {prediction.least_s:.4g} s" + (
        "" if likely is None else f", likely {likely:.4g} s"
    )
    yield _scaled_by(prediction)
    yield _describe_memory(prediction)
    for note in prediction.uncertain:
        yield f"caution: {note}"


def _phase_row(phase: Any) -> dict[str, str]:
    limits = phase.range_s
    return {
        "phase": phase.phase,
        "least s": f"{phase.least_s:.4g}",
        "bound by": phase.bound_by,
        "likely s": "-" if phase.likely_s is None else f"{phase.likely_s:.4g}",
        "range s": "-" if limits is None else f"{limits[0]:.4g} to {limits[1]:.4g}",
    }


def _scaled_by(prediction: Prediction) -> str:
    sources = {p.reached.source for p in prediction.phases if p.reached is not None}
    if not sources:
        return "likely times need records of this family: results_dir=FOLDER"
    return f"likely times: least times over the shares reached by {'; '.join(sorted(sources))}"


def _describe_memory(prediction: Prediction) -> str:
    needed = prediction.needed
    parts = (
        f"weights {needed.weights / GIGA:.3g} GB, cache {needed.cache / GIGA:.3g} GB,"
        f" activations about {needed.activations / GIGA:.3g} GB"
    )
    memory = prediction.sheet.memory_bytes
    if memory is None:
        return f"memory: {needed.total / GIGA:.3g} GB ({parts}); the data sheet names no size"
    verdict = "fits" if prediction.fits else "does not fit"
    return f"memory: {needed.total / GIGA:.3g} GB ({parts}): {verdict} into {memory / GIGA:.4g} GB"


def _write_files(question: Question, answer: Answer) -> None:
    from profiling.costs.ledger import to_csv, to_json

    if question.json is not None:
        predictions = [_plain(*one) for one in answer.predictions]
        _write(question.json, "--json", to_json(answer.counts, predictions))
    if question.csv is not None:
        _write(question.csv, "--csv", to_csv(_list_rows(question, answer)))


def list_rows(question: Question) -> list[dict[str, Any]]:
    """The answer as --csv writes it: a row for each count, or line of one, and for each device."""
    return _list_rows(question, _answer(question))


def _list_rows(question: Question, answer: Answer) -> list[dict[str, Any]]:
    from profiling.costs.ledger import explained_rows

    predicted = [_flat(_plain(*one)) for one in answer.predictions]
    if question.explained:
        return [*explained_rows(answer.counts), *predicted]
    if predicted and not question.conventions:
        return predicted
    return [*(count.as_row() for count in answer.counts), *predicted]


def _plain(settings: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
    needed = prediction.needed
    return {
        **settings,
        "dtype": prediction.dtype,
        "device": prediction.device,
        "data_sheet": prediction.sheet.document,
        "least_s": prediction.least_s,
        "likely_s": prediction.likely_s,
        "memory_bytes": needed.total,
        "weight_bytes": needed.weights,
        "cache_bytes": needed.cache,
        "activation_bytes": needed.activations,
        "device_memory_bytes": prediction.sheet.memory_bytes,
        "fits": prediction.fits,
        "uncertain": "; ".join(prediction.uncertain) or None,
        "phases": {
            phase.phase: {
                "least_s": phase.least_s,
                "bound_by": phase.bound_by,
                "likely_s": phase.likely_s,
                "range_s": phase.range_s,
                "scaled_by": phase.reached and phase.reached.source,
            }
            for phase in prediction.phases
        },
    }


def _flat(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Without nesting: a column for each value of each phase."""
    flat = {name: value for name, value in prediction.items() if name != "phases"}
    for phase, values in prediction["phases"].items():
        low, high = values["range_s"] or (None, None)
        columns = {**values, "range_low_s": low, "range_high_s": high}
        del columns["range_s"]
        flat |= {f"{phase}_{name}": value for name, value in columns.items()}
    return flat


def _write(path: Path, flag: str, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(flag, path, f"cannot be written: {error.strerror}") from None


# One point


def describe(point: Point) -> Iterator[str]:
    """The cost of a point as lines of text."""
    # Imported here, since importing a framework takes longer than finding a misspelt argument.
    from profiling.engines.transformers.point_costs import AS_PROCESSED, count_point

    costs = count_point(point, lengths=AS_PROCESSED)
    yield from _describe_shape(point, costs)
    yield from _describe_phases(costs.phases)
    yield from _describe_parts(costs)
    yield from _describe_cache(costs)


def _describe_shape(point: Point, costs: PointCosts) -> Iterator[str]:
    parameters = sum(costs.parameters.values())
    yield f"{point.model}, weights={point.weights}: {parameters:,} parameters in {costs.dtype}"
    counted = Counter(
        f"{width}x{height}" + (f" with {frames} frames" if frames > 1 else "")
        for (width, height), frames in zip(costs.sizes, costs.frames, strict=True)
    )
    pictures = ", ".join(f"{count} of {size}" for size, count in counted.items())
    yield (
        f"a batch of {costs.rows}, pictures: {pictures}; prompts padded to"
        f" {costs.prompt_tokens} tokens; {costs.new_tokens} new tokens"
    )


def _describe_phases(costs: PhaseCosts) -> Iterator[str]:
    readings, moved = {r.metric: r for r in read_costs(costs)}, costs.moved_bytes
    yield ""
    yield f"{'phase':<12}{'GFLOP':>16}{'GB moved':>12}{'FLOP/byte':>12}"
    for phase in COUNTED_PHASES:
        yield _phase_line(readings[f"flops_{phase}"], moved[phase])
    yield _phase_line(readings["flops"], sum(value for value in moved.values() if value))


def _phase_line(reading: Reading, moved: int | None) -> str:
    if reading.value is None:
        return f"{reading.phase:<12}{'-':>16}  {reading.source}"
    line = f"{reading.phase:<12}{reading.value / GIGA:>16,.3f}"
    if not moved:
        return line
    return line + f"{moved / GIGA:>12,.3f}{reading.value / moved:>12,.1f}"


def _describe_parts(costs: PointCosts) -> Iterator[str]:
    yield ""
    yield f"{'part':<12}{'parameters':>16}{'GB':>12}"
    rows = [(part, elements, costs.part_bytes[part]) for part, elements in costs.parameters.items()]
    total = ("total", sum(costs.parameters.values()), costs.weight_bytes)
    for part, elements, size in [*rows, total]:
        yield f"{part:<12}{elements:>16,}{size / GIGA:>12,.3f}"


def _describe_cache(costs: PointCosts) -> Iterator[str]:
    yield ""
    yield f"cache: {costs.cache_bytes:,} bytes a decoded token of each row"
    if costs.encoded_cache_bytes:
        yield f"cache: {costs.encoded_cache_bytes:,} bytes an encoded token of each row"


if __name__ == "__main__":
    main()
