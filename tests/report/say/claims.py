"""What the report may claim, each with data that show it and with data that do not.

A claim names the function that writes it and a part of its text in the code. `said` and `unsaid`
get an empty folder and give what the report says of the data that they write there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiling.report import Run, read_runs
from profiling.report.read.sweeps import find_rounds, find_sweeps
from profiling.report.say import sentences
from profiling.report.say.best import write_best
from profiling.report.say.cautions import say_cautions
from profiling.report.say.differences import ScoreDifference
from profiling.report.say.engines import Standing, say_engine
from profiling.report.say.explanation import explain_run
from profiling.report.say.gate import judge, parse_limit
from profiling.report.say.laws import describe_growth
from profiling.report.say.pareto import front_of, group_comparable, say_front
from profiling.report.say.reduction import Kept, say_answers, say_times
from profiling.report.say.two_runs import write_comparison
from profiling.report.write.variants import _lead
from profiling.statistics.growth import fit_growth
from profiling.statistics.ratios import Ratio
from profiling.statistics.skewed_means import bound_change
from tests.report.synthetic import MACHINE, write_run, write_timed
from tests.report.synthetic import write_comparison as pair

Scene = Callable[[Path], str]
FLAT, LONG = [0.1] * 8, [0.5] * 8


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`text` stands in the code of `writer`; `shows` is what is looked for, if it differs."""

    writer: str
    text: str
    said: Scene
    unsaid: Scene
    shows: str = ""


def runs_of(folder: Path) -> list[Run]:
    found = read_runs(folder)
    assert found.problems == []
    return found.runs


def by(key: str, folder: Path) -> dict[Any, Run]:
    return {run[key]: run for run in runs_of(folder)}


# A run


def one_run(**changes: Any) -> Scene:
    def scene(folder: Path) -> str:
        write_run(folder, **changes)
        return sentences.say_latency(runs_of(folder)[0])

    return scene


NO_PHASES = dict.fromkeys(
    ("preprocess_s", "transfer_s", "vision_s", "projector_s", "prefill_s", "decode_s", "other_s")
)


def outcomes(*statuses: str) -> Scene:
    def scene(folder: Path) -> str:
        for number, status in enumerate(statuses):
            write_run(folder, status=status, img_size=112 * (number + 1))
        return sentences.say_outcomes(runs_of(folder))

    return scene


def caution(**readings: float) -> Scene:
    def scene(folder: Path) -> str:
        write_run(folder, summary=readings)
        return " ".join(say_cautions(runs_of(folder)))

    return scene


# An explanation of a run


def explained(*further: dict[str, Any], without: str = "", **changes: Any) -> Scene:
    """The first run explained beside further ones; `without` is why the peaks are not known."""

    def scene(folder: Path) -> str:
        made = write_run(folder, **changes)
        for run in further:
            write_run(folder, **run)
        if without:
            with (made / "readings.csv").open("a", encoding="utf-8") as stream:
                stream.write(f'run,peak_flops_per_s,,FLOP/s,unavailable,"{without}",,\n')
        runs = runs_of(folder)
        (run,) = [one for one in runs if one.name == made.name]
        return "\n".join(explain_run(run, runs))

    return scene


NO_PEAKS = {"peak_flops_per_s": None, "peak_bytes_per_s": None}
AT_THE_LIMIT = {"vision_s": 5e-4, "projector_s": 5e-4, "prefill_s": 6e-4, "decode_s": 0.021}


# Sweeps over a size


def sizes(say: Callable[[Any], str], *timed: dict[str, Any], paired: float | None = None) -> Scene:
    """A sweep with one run for each argument: its phases, and its interval."""

    def scene(folder: Path) -> str:
        made = [
            write_timed(folder, **run, img_size=112 * (number + 1))
            for number, run in enumerate(timed)
        ]
        if paired is not None:
            pair(made[-1], made[0], ratio=paired)
        (sweep,) = find_sweeps(runs_of(folder), "img_size")
        return say(sweep)

    return scene


def timed(
    vision: Sequence[float],
    prefill: Sequence[float],
    decode: Sequence[float],
    bounds: tuple[float, float] | None = None,
    **more: Any,
) -> dict[str, Any]:
    phases = {"vision": list(vision), "prefill": list(prefill), "decode": list(decode)}
    return {"phases": phases, "bounds": bounds, **more}


SMALL = timed(FLAT, FLAT, FLAT, (0.29, 0.31))
LARGE = timed(LONG, FLAT, FLAT, (0.69, 0.71))
# As long within its interval as SMALL is.
SIMILAR = timed([0.11] * 8, FLAT, FLAT, (0.305, 0.32))
# Vision takes longer by more than the batch does, since decoding took less.
SHIFTED = timed(LONG, FLAT, [0.01] * 8, (0.6, 0.62))
# Most of what is added lies in no phase that is known.
HIDDEN = timed([0.15] * 8, FLAT, FLAT, (0.69, 0.71), summary={"latency_s": 0.7})
PREFILL = timed(FLAT, LONG, FLAT)
UNCLEAR = timed(FLAT, [0.1, 0.4] * 4, FLAT)


def law(costs: Callable[[float], float]) -> Scene:
    def scene(folder: Path) -> str:
        for side in (56, 112, 224, 336, 448):
            tokens = (side // 14) ** 2
            write_run(folder, img_size=side, summary={"latency_s": costs(tokens)})
        (sweep,) = find_sweeps(runs_of(folder), "img_size")
        return sentences.say_law(sweep)

    return scene


def growth(costs: Callable[[float], float], *sizes: float) -> Scene:
    def scene(_: Path) -> str:
        fitted = fit_growth(sizes, [costs(size) for size in sizes])
        return "" if fitted is None else describe_growth(fitted, "tokens")

    return scene


def power(tokens: float) -> float:
    return 0.1 + 1e-4 * tokens**1.5


def parabola(tokens: float) -> float:
    return 0.1 + 1e-3 * tokens + 1e-6 * tokens**2


def jumping(tokens: float) -> float:
    return 1 + (int(tokens) * 7919 % 13) / 3


TOKENS = (16, 64, 256, 576, 1024)


# Variants and engines


def variants(ratios: dict[str, float | None], *, launches: int = 5) -> Scene:
    """The plain model and variants; a ratio is a paired speed-up, None a separate run.

    The last comparison has so many launches, and of fewer than three no interval.
    """

    def scene(folder: Path) -> str:
        base = write_run(folder)
        for name, ratio in ratios.items():
            # In a separate run every variant looks ten times as fast.
            other = write_run(folder, optimization=name, slower=0.1)
            if ratio is not None:
                number = launches if name == list(ratios)[-1] else 5
                reach = 1.02 if number > 2 else None
                pair(base, other, ratio=ratio, launches=number, reach=reach)
        (sweep,) = find_sweeps(runs_of(folder), "optimization")
        return sentences.say_optimizations(sweep)

    return scene


def no_plain_model(folder: Path) -> str:
    for name in ("bf16", "int4"):
        write_run(folder, optimization=name)
    (sweep,) = find_sweeps(runs_of(folder), "optimization")
    return _lead(sweep)


def plain_model(folder: Path) -> str:
    pair(write_run(folder), write_run(folder, optimization="bf16"), ratio=2.0)
    (sweep,) = find_sweeps(runs_of(folder), "optimization")
    return _lead(sweep)


def engines(
    ratio: float | None,
    *,
    plain: str = "torch",
    samples: int = 8,
    reach: float | None = 1.02,
    third: bool = False,
) -> Scene:
    """`ratio` is another engine's time over the plain one's; a third engine has a separate run."""

    def scene(folder: Path) -> str:
        base = write_run(folder, engine={"name": plain}, summary={"engine": plain})
        other = write_run(
            folder, engine={"name": "other"}, samples=samples, summary={"engine": "other"}
        )
        if third:
            write_run(folder, engine={"name": "third"}, summary={"engine": "third"})
        if ratio is not None:
            pair(other, base, ratio=ratio, reach=reach, launches=5 if reach else 2)
        (sweep,) = find_sweeps(runs_of(folder), "engine")
        return sentences.say_engines(sweep)

    return scene


KEPT = Kept(method="divprune", keep="0.5")


def fewer_tokens(*changes: float) -> Scene:
    """The changes of an error from random tokens, one for each sample."""

    def scene(_: Path) -> str:
        return say_answers(
            "Word error rate",
            [(KEPT, ScoreDifference(changes=changes, bounds=bound_change(changes)))],
        )

    return scene


def fewer_tokens_timed(ratio: float, *, reach: float) -> Scene:
    """The full model's time over that with fewer tokens, between what reaches so far."""

    def scene(_: Path) -> str:
        found = Ratio(value=ratio, low=ratio / reach, high=ratio * reach, confidence=0.95)
        return say_times("prefill", [(KEPT, found)])

    return scene


# Models


def models(ratio: float | None, *, spread: float = 0.0) -> Scene:
    """`ratio` is the second model's time over the first's, in pairs."""

    def scene(folder: Path) -> str:
        bounds = {"latency_ci_low_s": 0.05 - spread, "latency_ci_high_s": 0.05 + spread}
        first = write_run(folder, model="llava", summary={"latency_s": 0.05, **bounds})
        second = write_run(folder, model="fuyu", summary={"latency_s": 0.0505, **bounds})
        if ratio is not None:
            pair(second, first, ratio=ratio)
        return sentences.say_ranking(runs_of(folder))

    return scene


def answers(wrong: int, *, samples: int = 60) -> Scene:
    """The first model answers all samples right, the second all but so many."""

    def scene(folder: Path) -> str:
        right = [f"sign number {number}" for number in range(samples)]
        other = ["no" if number < wrong else text for number, text in enumerate(right)]
        write_run(folder, model="llava", samples=samples, answers=right)
        write_run(folder, model="fuyu", samples=samples, answers=other)
        return sentences.say_best_answers(runs_of(folder))

    return scene


def fronts(second: float) -> Scene:
    def scene(folder: Path) -> str:
        write_run(folder, summary={"latency_s": 0.1, "wer": 0.5})
        write_run(folder, img_size=112, summary={"latency_s": 0.2, "wer": second})
        (group,) = group_comparable(runs_of(folder))
        return say_front(group, front_of(group, with_energy=False), with_energy=False)

    return scene


# Two runs


def compared(
    *,
    ratio: float | None = None,
    reach: float | None = 1.02,
    noisy: bool = False,
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    edit: Callable[[dict[str, Any]], None] | None = None,
    common: dict[str, Any] | None = None,
) -> Scene:
    """`ratio` is the time of A over that of B; without a second run A is compared with itself."""

    def scene(folder: Path) -> str:
        a = write_run(folder, **(common or {}), **(first or {}))
        b = a if second is None else write_run(folder, **(common or {}), **second)
        if ratio is not None:
            pair(a, b, ratio=ratio, reach=reach, noisy=noisy)
        if edit is not None:
            change(b, edit)
        runs = {run.name: run for run in runs_of(folder)}
        return "\n".join(write_comparison([runs[a.name]], [runs[b.name]]))

    return scene


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "run.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    edit(written)
    path.write_text(json.dumps(written), encoding="utf-8")


def with_digests(**digests: str) -> Callable[[dict[str, Any]], None]:
    return lambda written: written.update(digests=digests)


def with_versions(written: dict[str, Any]) -> None:
    written["versions"] = {**written["versions"], "torch": "2.12.0"}


def with_key(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda written: written["config"].update({name: value})


def with_probe(written: dict[str, Any]) -> None:
    written["config"]["profiler"] = {"name": "quick", "repeats": 99}


def rounds(
    befores: Sequence[float], afters: Sequence[float], *, matched: bool = False, apart: bool = False
) -> Scene:
    """Latencies of the rounds of two points."""

    def scene(folder: Path) -> str:
        for side, (name, values) in enumerate((("baseline", befores), ("compile", afters))):
            for number, latency_s in enumerate(values):
                day = 1 + number + (10 * side if apart else 0)
                suffix = f"-{number + 1}" if number and not matched else ""
                more = {"round": number + 1} if matched else {}
                write_run(
                    folder,
                    optimization=name,
                    suffix=suffix,
                    started_at=f"2026-01-{day:02d}T0{side}:00:00+00:00",
                    summary={"latency_s": latency_s},
                    **more,
                )
        runs = runs_of(folder)
        sides = {run["optimization"]: find_rounds(run, runs) for run in runs}
        return "\n".join(write_comparison(sides["baseline"], sides["compile"]))

    return scene


def likelihoods(before: Sequence[float], after: Sequence[float]) -> Scene:
    def scene(folder: Path) -> str:
        sides = []
        for name, values in (("baseline", before), ("compile", after)):
            right = [f"sign number {number}" for number in range(len(values))]
            run = write_run(folder, optimization=name, samples=len(values), answers=right)
            path = run / "answers.jsonl"
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            told = [line | {"reference_nll": v} for line, v in zip(lines, values, strict=True)]
            path.write_text("".join(f"{json.dumps(line)}\n" for line in told), encoding="utf-8")
            sides.append(run.name)
        runs = {run.name: run for run in runs_of(folder)}
        return "\n".join(write_comparison([runs[sides[0]]], [runs[sides[1]]]))

    return scene


def gated(limit: str, **changes: Any) -> Scene:
    """The line about a limit; the candidate is the same point again, with these changes."""

    def scene(folder: Path) -> str:
        given = dict(changes)
        common: dict[str, Any] = {"samples": given.pop("samples", 40)}
        ratio, reach = given.pop("ratio", None), given.pop("reach", 1.02)
        right = [f"sign number {number}" for number in range(common["samples"])]
        a = write_run(folder, answers=right, summary=given.pop("before", {}), **common)
        mine = given.pop("answers", right)
        b = write_run(folder, answers=mine, optimization="compile", **common, **given)
        if ratio is not None:
            pair(b, a, ratio=ratio, reach=reach)
        runs = {run.name: run for run in runs_of(folder)}
        return judge(parse_limit(limit), [runs[a.name]], [runs[b.name]]).line

    return scene


def gated_by_itself(folder: Path) -> str:
    write_run(folder)
    (run,) = runs_of(folder)
    return judge(parse_limit("latency_s=5%"), [run], [run]).line


def best(column: str, *, second: bool = True, lacking: bool = False) -> Scene:
    def scene(folder: Path) -> str:
        write_run(folder)
        if second:
            gone = {column: None} if lacking else {}
            write_run(folder, img_size=112, summary=gone)
        return "\n".join(write_best(runs_of(folder), column, [], most=False))

    return scene


EVEN = [0.1, 0.1001, 0.0999]
SLOW = [0.2, 0.2004, 0.1999]
WILD = [0.1, 0.2, 0.05]
NLLS = [1.0 + number / 10 for number in range(40)]
WRONG = {"answers": ["no"] * 40}
COMPILED = {"optimization": "compile"}


def list_claims() -> Iterator[Claim]:
    yield from _list_claims_of_runs()
    yield from _list_claims_of_sweeps()
    yield from _list_claims_of_variants()
    yield from _list_claims_of_comparisons()
    yield from _list_claims_of_scores()
    yield from _list_claims_of_gates()
    yield from _list_claims_of_explanations()
    yield from _list_claims_of_engines()
    yield from _list_claims_of_reduction()


def _list_claims_of_runs() -> Iterator[Claim]:
    latency = Claim(
        writer="sentences.say_latency",
        text=" of the time**",
        said=one_run(),
        unsaid=one_run(summary=NO_PHASES),
    )
    yield latency
    yield replace(
        latency,
        text=": one batch takes ",
        shows="50 new tokens: one batch takes",
        said=latency.unsaid,
        unsaid=latency.said,
    )
    # What is known of the phases is less than what is not.
    yield replace(latency, unsaid=one_run(summary={**NO_PHASES, "preprocess_s": 1e-3}))
    yield replace(latency, text=" (median of ", unsaid=one_run(summary={"num_repeats": None}))
    yield Claim(
        writer="sentences._count_outcomes",
        text=" runs, all completed.",
        said=outcomes("completed", "completed"),
        unsaid=outcomes("completed", "failed"),
    )
    for text, name, said, unsaid in (
        ("does not seem to look at the pictures", "picture_effect", 0, 1),
        ("have the length that the model chose", "exact_length_share", 0.5, 1),
        ("came from the server's cache", "cached_prompt_share", 0.9, 0.1),
        ("were refused and sent again", "num_repeated_requests", 3, 0),
    ):
        yield Claim(
            writer="cautions._find_cautions",
            text=text,
            said=caution(**{name: said}),
            unsaid=caution(**{name: unsaid}),
        )
    yield Claim(
        writer="best.write_best",
        text=" completed runs fit",
        said=best("latency_s"),
        unsaid=best("energy_j"),
    )
    yield Claim(
        writer="best.write_best",
        text=" have no value of ",
        said=best("flops", lacking=True),
        unsaid=best("flops"),
    )
    yield Claim(
        writer="best.say_order",
        text="In the order of the measured values",
        said=best("latency_s"),
        unsaid=best("flops"),
    )
    yield Claim(
        writer="pareto.say_front",
        text=" by no other run in the measured values of ",
        shows="2 of 2 runs are dominated by no other run",
        said=fronts(0.1),
        unsaid=fronts(0.6),
    )


def _list_claims_of_sweeps() -> Iterator[Claim]:
    grow, cross = sentences.say_growth, sentences.say_crossing
    for text, said, unsaid in (
        (" the time (", sizes(grow, SMALL, LARGE), sizes(grow, SMALL, SIMILAR)),
        ("separate runs", sizes(grow, SMALL, LARGE), sizes(grow, SMALL, LARGE, paired=2.3)),
        ("measured in pairs", sizes(grow, SMALL, LARGE, paired=2.3), sizes(grow, SMALL, LARGE)),
        (
            " no change of the latency is shown (",
            sizes(grow, SMALL, LARGE, paired=1.0),
            sizes(grow, SMALL, LARGE),
        ),
        (
            "; intervals of at least ",
            sizes(grow, timed(FLAT, FLAT, FLAT), LARGE),
            sizes(grow, SMALL, LARGE),
        ),
        (
            " to tell a change.",
            sizes(grow, SMALL, timed(LONG, FLAT, FLAT, (0.69, 0.71), confidence=0.8)),
            sizes(grow, SMALL, LARGE),
        ),
        ("From ", sizes(grow, SMALL, LARGE), one_run()),
    ):
        yield Claim(writer="sentences.say_growth", text=text, said=said, unsaid=unsaid)
    cause = Claim(
        writer="sentences._say_main_cause",
        text=" of the increase",
        said=sizes(grow, SMALL, LARGE),
        unsaid=sizes(grow, SMALL, SHIFTED),
    )
    yield cause
    yield replace(cause, unsaid=sizes(grow, SMALL, SIMILAR))
    yield replace(cause, unsaid=sizes(grow, LARGE, SMALL))
    yield replace(cause, unsaid=sizes(grow, SMALL, HIDDEN))
    yield Claim(
        writer="sentences.say_crossing",
        text="Prefill exceeds vision and decode together at every measured size.",
        said=sizes(cross, PREFILL, PREFILL, PREFILL),
        # The smallest size alone shows it.
        unsaid=sizes(cross, PREFILL, SMALL, SMALL),
    )
    above = Claim(
        writer="sentences.say_crossing",
        text="Prefill exceeds vision and decode together above about ",
        said=sizes(cross, SMALL, PREFILL, PREFILL),
        unsaid=sizes(cross, SMALL, PREFILL, SMALL),
    )
    yield above
    yield replace(above, unsaid=sizes(cross, SMALL, UNCLEAR, UNCLEAR))
    yield Claim(
        writer="sentences.say_law", text=" + a power: ", said=law(power), unsaid=law(parabola)
    )
    for text, said_by, unsaid_by in (
        ("], R² ", growth(power, *TOKENS), growth(parabola, *TOKENS)),
        ("no single power of ", growth(parabola, *TOKENS), growth(power, *TOKENS)),
        (" cannot be told from ", growth(jumping, *TOKENS), growth(power, *TOKENS)),
    ):
        yield Claim(writer="laws.describe_growth", text=text, said=said_by, unsaid=unsaid_by)


def _list_claims_of_variants() -> Iterator[Claim]:
    for writer, text, said, unsaid in (
        ("say_optimizations", "Slower than the baseline", {"bf16": 0.8}, {"bf16": 0.99}),
        (
            "say_optimizations",
            "No difference from the baseline is shown for",
            {"bf16": 1.01},
            {"bf16": 1.1},
        ),
        ("_say_fastest", "Fastest", {"bf16": 1.5, "int4": 1.2}, {"bf16": 1.5, "int4": 1.49}),
        ("_say_fastest", "Fastest", {"bf16": 1.5}, {"bf16": None}),
        ("_say_fastest", "Fastest", {"bf16": 1.5}, {"bf16": 1.01}),
        (
            "_say_among",
            " of those measured in pairs",
            {"bf16": 1.5, "int4": None},
            {"bf16": 1.5, "int4": 1.2},
        ),
        (
            "_say_fastest",
            "Several are faster than the baseline, none of them shown to be fastest: ",
            {"bf16": 1.5, "int4": 1.49},
            {"bf16": 1.5, "int4": 1.2},
        ),
        (
            "_say_fastest",
            "Only one is shown to be faster than the baseline: ",
            {"bf16": 1.03, "int4": 1.01},
            {"bf16": 1.5, "int4": 1.49},
        ),
        (
            "_say_fastest",
            "No optimization is shown to be faster than the baseline.",
            {"bf16": 1.01},
            {"bf16": None},
        ),
        ("_say_unpaired", "Which variant is fastest cannot be said.", {"bf16": None}, {"bf16": 2}),
        (
            "_say_unpaired",
            "Not measured in pairs, so that nothing can be said of them: ",
            {"bf16": 1.5, "int4": None},
            {"bf16": 1.5},
        ),
        (
            "_say_control",
            " is the same model as the baseline and measured ",
            {"bf16": 2.0, "fp32": 1.0},
            {"bf16": 2.0},
        ),
        (
            "_say_control",
            "in a separate run: this is what the machine alone changes",
            {"bf16": 2.0, "fp32": None},
            {"bf16": 2.0, "fp32": 1.0},
        ),
        (
            "_say_control",
            ": the interval holds 1, as it has to.",
            {"bf16": 2.0, "fp32": 1.01},
            {"bf16": 2.0, "fp32": 1.1},
        ),
        (
            "_say_control",
            ": the interval should hold 1, so smaller differences are not believed.",
            {"bf16": 2.0, "fp32": 1.1},
            {"bf16": 2.0, "fp32": 1.01},
        ),
        ("_say_speed", " the baseline's speed", {"bf16": 1.5}, {"bf16": None}),
        ("_say_speed", " of the answers equal", {"bf16": 1.5}, {"bf16": 1.0}),
    ):
        yield Claim(
            writer=f"sentences.{writer}", text=text, said=variants(said), unsaid=variants(unsaid)
        )
    unbounded = variants({"bf16": 1.5, "int4": 1.2}, launches=2)
    bounded, separate = variants({"bf16": 1.5, "int4": 1.2}), variants({"bf16": 1.5, "int4": None})
    for text, said_by, unsaid_by in (
        ("Measured in pairs, but without an interval: ", unbounded, bounded),
        ("Measured in pairs, but without an interval: ", unbounded, separate),
        ("Measured in pairs, but without", variants({"bf16": 1.5}, launches=2), separate),
        ("Not measured in pairs, so that nothing can be said of them: ", separate, unbounded),
    ):
        yield Claim(writer="sentences._say_unpaired", text=text, said=said_by, unsaid=unsaid_by)
    among = Claim(
        writer="sentences._say_among",
        text=" of those with a paired interval",
        said=unbounded,
        unsaid=separate,
    )
    yield among
    yield replace(among, text=" of those measured in pairs", said=separate, unsaid=unbounded)
    control = {"bf16": 2.0, "fp32": 1.0}
    yield Claim(
        writer="sentences._say_control",
        text="in a separate run: this is what the machine alone changes",
        said=variants({"bf16": 2.0, "fp32": None}),
        unsaid=variants(control, launches=2),
    )
    for writer, text, said_by, unsaid_by in (
        ("say_engines", " one batch takes ", engines(None), engines(None, plain="third")),
        ("_say_engine", ", in a separate run", engines(None), engines(1.5)),
        ("_say_engine", " the time", engines(1.5), engines(None)),
        ("_say_engine", " of the answers equal", engines(1.5), engines(1.5, samples=7)),
        (
            "_say_separate",
            "Some of these are separate runs: ",
            engines(1.5, third=True),
            engines(1.5),
        ),
        ("_say_separate", "Some of these", engines(1.5, third=True), engines(None, third=True)),
        ("_say_order", "Paired comparisons do not show it.", models(1.01), models(None)),
        ("_say_order", "Paired comparisons do not show it.", models(1.01), models(1.5)),
        ("_say_order", "Which model is fastest cannot be said. ", models(None), models(1.5)),
        ("_say_order", " is the fastest** at ", models(1.5), models(None)),
        ("_say_order", " is the fastest** at ", models(1.5), models(1.01)),
        # 100 [50, 200] against 101 [50, 200].
        ("_say_order", " is the fastest** at ", models(1.5), models(None, spread=0.04)),
        ("say_best_answers", " has the best answers, with a ", answers(30), answers(1)),
        ("say_best_answers", " has the best answers, with a ", answers(30), answers(0)),
        ("say_best_answers", "which answers best is not shown by these", answers(1), answers(30)),
    ):
        yield Claim(writer=f"sentences.{writer}", text=text, said=said_by, unsaid=unsaid_by)


def _list_claims_of_comparisons() -> Iterator[Claim]:
    paired, other = compared(ratio=0.5, second=COMPILED), compared(second=COMPILED)
    same, again = compared(), {"suffix": "-2"}
    digests = {"code": "a", "samples": "b", "weights": "c"}
    matched = rounds(EVEN, SLOW, matched=True)
    keys = [with_key(*one) for one in (("threads", 2), ("preload", False), ("seed", 5))]
    for text, said, unsaid in (
        ("They differ in ", other, compared(second=again)),
        *(
            ("They differ in ", compared(second=again, edit=edit), same)
            for edit in (*keys, with_probe, with_versions)
        ),
        (" Not recorded, so possibly different: ", other, compared(edit=with_digests(**digests))),
    ):
        writer, shows = "two_runs.say_conditions", _narrow(text)
        yield Claim(writer=writer, text=text, shows=shows, said=said, unsaid=unsaid)
    nothing = Claim(
        writer="two_runs._say_no_condition",
        text="They differ in nothing that is recorded",
        said=compared(second=again),
        unsaid=other,
    )
    yield nothing
    for edit in (*keys, with_probe, with_versions):
        yield replace(nothing, unsaid=compared(second=again, edit=edit))
    yield replace(nothing, text="Both are the same run.", said=same, unsaid=compared(second=again))
    for text, said, unsaid in (
        (
            "Caution: these runs were made on different machines.",
            compared(second={"machine": {**MACHINE, "cpu_model": "Another"}}),
            other,
        ),
        (" is noisy: ", compared(second={"noisy": True, **COMPILED}), other),
        (
            "Caution: all rounds of one side were measured before those of the other",
            rounds(EVEN, SLOW, apart=True),
            rounds(EVEN, SLOW),
        ),
    ):
        yield Claim(writer="two_runs._say_cautions", text=text, said=said, unsaid=unsaid)
    for text, said, unsaid in (
        ("B takes ", paired, other),
        ("B takes ", paired, compared(ratio=1.01, second=COMPILED)),
        ("B takes ", rounds(EVEN, SLOW), rounds(EVEN, WILD)),
        ("B takes ", rounds(EVEN, SLOW), rounds(EVEN[:2], SLOW[:2])),
        ("Latency: a run is not compared with itself.", same, compared(second=again)),
        ("No difference in latency is shown", compared(ratio=1.01, second=COMPILED), paired),
        ("No difference in latency is shown", rounds(EVEN, WILD), rounds(EVEN, SLOW)),
        ("No difference in latency is shown", rounds(EVEN, WILD), rounds(EVEN[:1], WILD[:1])),
        (
            "Latency: a run has none, so that nothing can be compared.",
            compared(second={"summary": {"latency_s": None}, **COMPILED}),
            other,
        ),
    ):
        yield Claim(writer="two_runs.say_latency_change", text=text, said=said, unsaid=unsaid)
    for writer, text, said, unsaid in (
        ("_say_ratio", " the time", paired, other),
        ("_say_basis", "measured in pairs (", paired, other),
        (
            "_say_basis",
            ", on a noisy machine",
            compared(ratio=0.5, noisy=True, second=COMPILED),
            paired,
        ),
        ("_say_rounds", " degrees of freedom; four times in", rounds(EVEN, SLOW), paired),
        (
            "_say_rounds",
            "matched rounds, Student's t",
            matched,
            rounds(EVEN, SLOW),
        ),
        (
            "_say_rounds",
            "separate rounds, Welch's t",
            rounds(EVEN, SLOW),
            matched,
        ),
        ("_say_rounds", "the same in each of ", rounds([0.1] * 3, [0.2] * 3), rounds(EVEN, SLOW)),
        ("_say_unknown", "A took ", other, paired),
        ("_say_unknown", "How much equal", other, rounds(EVEN, SLOW)),
        (
            "_say_unknown",
            "Measured in pairs, but in ",
            compared(ratio=0.5, reach=None, second=COMPILED),
            paired,
        ),
        ("_count_rounds", " of B; rounds need ", rounds(EVEN, SLOW[:1]), rounds(EVEN, SLOW)),
    ):
        yield Claim(writer=f"two_runs.{writer}", text=text, said=said, unsaid=unsaid)
    yield Claim(
        writer="advice.say_how_to_repeat",
        text="round=",
        shows="round=1,2,3",
        said=compared(second=again),
        unsaid=other,
    )
    yield Claim(
        writer="advice.say_how_to_pair",
        text=" ",
        shows="profiling.versus",
        said=other,
        unsaid=compared(second=again),
    )


def _narrow(text: str) -> str:
    """`They differ in nothing` is another claim."""
    return "They differ in (?!nothing)" if text == "They differ in " else ""


def _list_claims_of_scores() -> Iterator[Claim]:
    some = {"answers": ["no"] * 20 + [f"sign number {number}" for number in range(20, 40)]}
    right = {"answers": [f"sign number {number}" for number in range(40)]}
    common = {"samples": 40}
    worse = compared(common=common, first=right, second={**COMPILED, **some})
    equal = compared(common=common, first=right, second={**COMPILED, **right})
    one = {"answers": ["no", *right["answers"][1:]]}
    slight = compared(common=common, first=right, second={**COMPILED, **one})
    few = likelihoods(NLLS[:8], [nll + 0.1 * n for n, nll in enumerate(NLLS[:8])])
    for text, said, unsaid in (
        (" is the same for each of ", equal, worse),
        ("differs", worse, slight),
        ("differs", worse, equal),
        # One number, a tenth more for each sample: no spread, and no interval of width zero.
        ("differs", worse, likelihoods(NLLS, [nll + 0.1 for nll in NLLS])),
        ("does not differ significantly", slight, worse),
        (" in the mean of ", worse, equal),
        (" better and ", worse, equal),
        (" changes by ", few, equal),
    ):
        yield Claim(
            writer="two_runs.say_score_change",
            text=text,
            shows=f"(Word|Nats).*{text}",
            said=said,
            unsaid=unsaid,
        )
    for text, said, unsaid in (
        (" samples are too few for an interval", few, likelihoods(NLLS, [0.1] * 40)),
        (
            "all samples change alike, so that their spread is unknown",
            likelihoods(NLLS, [nll + 0.5 for nll in NLLS]),
            few,
        ),
    ):
        yield Claim(writer="differences.reason", text=text, said=said, unsaid=unsaid)
    yield Claim(
        writer="two_runs._say_answers",
        text=" of the answers are equal.",
        said=equal,
        unsaid=compared(second={"samples": 5, **COMPILED}),
    )


def _list_claims_of_gates() -> Iterator[Claim]:
    bounded = {"accuracy": 0.5, "accuracy_ci_low": 0.4, "accuracy_ci_high": 0.6}
    slow = gated("latency_s=5%", ratio=1.2)
    close = gated("latency_s=5%", ratio=1.05)
    missing = gated("energy_j=5%")
    accurate: dict[str, Any] = {"summary": bounded, "before": bounded}
    likely: dict[str, Any] = {key: {"reference_nll": 1.0} for key in ("summary", "before")}
    half = {"answers": ["no"] * 3 + [f"sign number {number}" for number in range(3, 40)]}
    for writer, text, said, unsaid in (
        ("judge", ", allowed ", slow, missing),
        ("_explain", ": the interval holds the limit, so that", close, slow),
        ("_say_more", "more launches: ", close, slow),
        ("_check_answers", " answered different samples", gated("wer=0.01", dataset="coco"),
         gated("wer=0.01")),
        ("_check_answers", " have different tokens", gated("reference_nll=0.1", model="fuyu",
         **likely), gated("reference_nll=0.1", **likely)),
        ("_value", " has no value", missing, slow),
        ("_refuse_costs", " in separate runs", gated("latency_s=5%", slower=10.0), slow),
        ("_refuse_costs", ": the paired comparison has ",
         gated("latency_s=5%", ratio=9.0, reach=None), slow),
        ("_refuse_costs", "a run cannot be judged by itself", gated_by_itself,
         gated("latency_s=5%")),
        ("_refuse_costs", "cannot be judged where a value is not above zero",
         gated("energy_j=5%", summary={"energy_j": 0.0}, before={"energy_j": 1.0}), slow),
        ("_compare_scores", ": has no interval, and not all answers are equal",
         gated("cer=0.01", summary={"cer": 0.1}, before={"cer": 0.1}, **half),
         gated("cer=0.01", summary={"cer": 0.1}, before={"cer": 0.1})),
        ("_compare_counts", ", counted", gated("flops=0%"), slow),
        ("_unchanged", "the same for each of ", gated("wer=0.01"), gated("wer=0.01", **half)),
        ("_unchanged", "the same for each of ", gated("accuracy=0.1", **accurate),
         gated("accuracy=0.1", **accurate, **half)),
        ("_compare_samples", " over ", gated("wer=0.5", **half), gated("wer=0.5")),
        ("_compare_samples", " samples are too few to judge", gated("wer=0.5", samples=5),
         gated("wer=0.5", samples=8)),
        ("_compare_signs", "; more samples (num_samples) decide",
         gated("wer=0.01", samples=8, answers=["no", *(f"sign number {n}" for n in range(1, 8))]),
         gated("wer=0.01", samples=8, answers=["no"] * 8)),
        ("_compare_signs", "worse by more than allowed in ",
         gated("wer=0.01", samples=8, answers=["no"] * 8),
         gated("wer=0.01", samples=8, answers=["no", *(f"sign number {n}" for n in range(1, 8))])),
    ):  # fmt: skip
        yield Claim(writer=f"gate.{writer}", text=text, said=said, unsaid=unsaid)
    yield Claim(
        writer="variants._lead",
        text=": no variant can be compared with it.",
        said=no_plain_model,
        unsaid=plain_model,
    )


def _list_claims_of_explanations() -> Iterator[Claim]:
    plain, elsewhere = explained(), explained(weights="pretrained", model="fuyu")
    known = explained(weights="pretrained", model="llava")
    failed = explained(status="failed", error="it broke")
    unplaced, beside = explained(summary=NO_PEAKS), explained({"img_size": 448})
    busy = explained(summary=NO_PEAKS, without="the machine was busy")
    at_the_limit = explained(summary=AT_THE_LIMIT)
    drafted = explained(summary={"decode_s": 1e-3, "tokens_per_step": 2.5})
    for writer, text, shows, said, unsaid in (
        ("explain_run", ". There are no times to explain.", "", failed, plain),
        ("explain_run", "no reason was recorded", "", explained(status="failed"), failed),
        ("_explain", "Caution: the machine was busy (", "", explained(noisy=True), plain),
        ("_explain_phase", " on this device (", "", plain, unplaced),
        ("_explain_phase", "  other runs of this family on such a device: ", "", plain, unplaced),
        ("_why_unplaced", "its least time is not known: the run has no", "", unplaced, busy),
        ("_why_unplaced", "its least time is not known: ", "known: the machine", busy, unplaced),
        ("_judge", "faster than the measured peak: data stay in a cache, or", "",
         explained(summary={"vision_s": 1e-4}), plain),
        ("_judge", "faster than the measured peak, which", "",
         explained(summary={"prefill_s": 1e-4}), plain),
        ("_judge", "faster than token by token, since drafts", "", drafted,
         explained(summary={"decode_s": 1e-3})),
        ("_explain_phase", "  the least time is that of a step for each token", "", drafted, plain),
        ("_judge", "within what is usual", "", plain, at_the_limit),
        ("_judge", "far from its limit", "", plain, at_the_limit),
        ("_describe_others", " their least times (", "", beside, plain),
        ("_describe_others", "none with a known least time", "", plain, beside),
        ("_published", "published: none, since this is a miniature", "", plain, known),
        ("_published", "published: no latency of this family", "", elsewhere, known),
        ("_published", " its least time", "published: .* its least time", known, elsewhere),
    ):  # fmt: skip
        yield Claim(
            writer=f"explanation.{writer}", text=text, shows=shows, said=said, unsaid=unsaid
        )


QUICK, OPEN = (1.5, 1.2, 1.8), (1.1, 0.9, 1.3)


def engine_at(*settings: tuple[float, float, float] | None, verdict: str | None = None) -> Scene:
    """An engine at some settings, each with a ratio to torch and its interval, or without one."""

    def scene(_: Path) -> str:
        standings = [
            Standing(
                speeds={"decode": Ratio(value=one[0], low=one[1], high=one[2], confidence=0.95)}
                if one
                else {},
                verdict=verdict,
            )
            for one in settings
        ]
        return say_engine(standings, ["decode"])

    return scene


def _list_claims_of_engines() -> Iterator[Claim]:
    quick, unknown = engine_at(QUICK), engine_at(None)
    wrong, rounded = engine_at(QUICK, verdict="error"), engine_at(QUICK, verdict="rounding")
    for writer, text, shows, said, unsaid in (
        ("say_engine", "no quiet paired comparison with an interval: nothing is said of its speed",
         "", unknown, quick),
        ("_list", " in ", "faster in decode", quick, engine_at(OPEN)),
        ("_say_range", " to ", r"\(1\.20× to 1\.80×\)", quick, engine_at(OPEN)),
        ("_say_share", " settings", "at 1 of 2 settings", engine_at(QUICK, OPEN), quick),
        ("_say_open", "not shown to differ in ", "", engine_at(OPEN), quick),
        ("_say_logits", "its logits were not compared", "", quick, rounded),
        ("_say_logits", "logits against torch in float32: ", r"float32: rounding \(1\)$",
         rounded, quick),
        ("_say_logits", ": more than rounding explains, see the tables", "", wrong, rounded),
    ):  # fmt: skip
        yield Claim(writer=f"engines.{writer}", text=text, shows=shows, said=said, unsaid=unsaid)


def _list_claims_of_reduction() -> Iterator[Claim]:
    varied = [0.1 + 0.01 * number for number in range(24)]
    better, worse = fewer_tokens(*(-one for one in varied)), fewer_tokens(*varied)
    open_ = fewer_tokens(*(one * (-1) ** i for i, one in enumerate(varied)))
    faster, slower = fewer_tokens_timed(1.3, reach=1.1), fewer_tokens_timed(0.7, reach=1.1)
    unclear = fewer_tokens_timed(1.3, reach=1.5)
    none = "no difference from {} is shown"
    for writer, text, shows, said, unsaid in (
        ("say_answers", "{}: ", "shown to be better than random tokens: divprune .0.5",
         better, worse),
        ("say_answers", "{}: ", "shown to be worse than random tokens: divprune", worse, open_),
        ("say_times", "Time of the {}", "shown to be faster than the full model", faster, unclear),
        ("say_times", "Time of the {}", "shown to be slower than the full model", slower, faster),
        ("_say", "shown to be {} than {}: ", "shown to be", better, open_),
        ("_say", none, "no difference from random tokens is shown", open_, better),
        ("_say", none, "no difference from the full model is shown", unclear, slower),
    ):  # fmt: skip
        yield Claim(writer=f"reduction.{writer}", text=text, shows=shows, said=said, unsaid=unsaid)
