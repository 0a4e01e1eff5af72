"""The command that prints what a point costs: its figures, and how it refuses."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profiling.cost import describe, describe_question, main, read_arguments, read_question
from profiling.engines.transformers.engine import TransformersEngine
from profiling.errors import Unsupported
from profiling.probes.flops import FlopsProbe
from tests.composing import compose_point
from tests.costs.published_sizes import PARAMETERS
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load, make_workload

PROJECT = Path(__file__).resolve().parent.parent


def table(*arguments: str) -> dict[str, list[str]]:
    """The columns of each phase."""
    lines = list(describe(read_arguments(arguments)))
    start = next(i for i, line in enumerate(lines) if line.startswith("phase"))
    end = lines.index("", start)
    return {words[0]: words[1:] for words in map(str.split, lines[start + 1 : end])}


@pytest.mark.parametrize("name", slow_except(FAMILIES, "blip2_t5", "fuyu"))
def test_tiny_costs_are_those_that_a_run_records(name: str) -> None:
    printed = table(f"model={name}", "weights=tiny", "batch_size=2", "max_new_tokens=4")
    workload = make_workload(load(name), batch_size=2, max_new_tokens=4, count=2)
    for reading in FlopsProbe(cross_check=False).measure(workload):
        if reading.metric in ("flops", "flops_vision", "flops_prefill", "flops_decode"):
            assert reading.value is not None
            shown = float(printed[reading.phase][0].replace(",", ""))
            assert shown == pytest.approx(reading.value / 1e9, abs=6e-4)


def totals(*arguments: str) -> list[dict[str, str]]:
    """The rows of the table."""
    lines = list(describe_question(read_question(arguments)))
    start = next(i for i, line in enumerate(lines) if "prompt_tokens  " in line)
    names = lines[start].split()
    return [dict(zip(names, row.split(), strict=False)) for row in lines[start + 1 :] if row]


@pytest.mark.parametrize("model", ["llava", "qwen25vl"])
def test_costs_grow_with_the_number_of_pictures(model: str) -> None:
    one, two, four = totals(f"model={model}", "weights=tiny", "num_pictures=1,2,4")[:3]
    assert [row["num_pictures"] for row in (one, two, four)] == ["1", "2", "4"]
    visual = [int(row["visual_tokens"]) for row in (one, two, four)]
    vision = [float(row["vision"]) for row in (one, two, four)]
    if model == "llava":
        assert visual == [visual[0], 2 * visual[0], 4 * visual[0]]
        assert vision == pytest.approx([vision[0], 2 * vision[0], 4 * vision[0]], abs=2e-3)
    assert visual == sorted(set(visual)) and vision == sorted(set(vision))


def test_frames_are_joined_in_pairs() -> None:
    rows = totals("model=qwen25vl", "weights=tiny", "num_frames=1,2,3,8")[:4]
    visual = [int(row["visual_tokens"]) for row in rows]
    assert visual == [visual[0], visual[0], 2 * visual[0], 4 * visual[0]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["model=blip2_opt", "num_pictures=2"],
        ["model=llava", "num_frames=2"],
        ["model=qwen25vl", "num_frames=2", "optimization=token_pruning"],
    ],
)
def test_what_a_family_cannot_be_shown_is_not_counted(arguments: list[str]) -> None:
    with pytest.raises(Unsupported, match="=") as caught:
        list(describe_question(read_question(["weights=tiny", *arguments])))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_full_size_needs_no_weights(name: str) -> None:
    lines = list(describe(read_arguments([f"model={name}", "prompt_len=50", "batch_size=4"])))
    assert f"{PARAMETERS[name]:,} parameters" in lines[0]
    assert f"{PARAMETERS[name]:,}" in next(
        line for line in reversed(lines) if line.startswith("total")
    )


def test_parts_add_up_to_the_whole() -> None:
    lines = list(describe(read_arguments(["model=blip2_t5", "weights=tiny"])))
    start = next(i for i, line in enumerate(lines) if line.startswith("part"))
    numbers = [
        int(match[0].replace(",", ""))
        for line in lines[start + 1 :]
        if (match := re.search(r"(?<= )[\d,]+(?= )", line)) and not line.startswith("cache")
    ]
    assert sum(numbers[:-1]) == numbers[-1]


def test_a_longer_prompt_costs_more_to_prefill_and_not_to_see() -> None:
    short, long = (
        table("model=llava", "weights=tiny", f"prompt_len={length}") for length in (10, 20)
    )
    assert float(long["prefill"][0]) > float(short["prefill"][0])
    assert long["vision"] == short["vision"]


def test_half_precision_halves_the_bytes() -> None:
    whole, half = (
        table("model=llava", "weights=tiny", f"optimization={name}") for name in ("fp32", "bf16")
    )
    assert float(half["vision"][1]) == pytest.approx(float(whole["vision"][1]) / 2, abs=1e-3)
    assert half["vision"][0] == whole["vision"][0]


def test_full_size_is_what_is_meant_when_nothing_is_said() -> None:
    assert read_arguments(["model=fuyu"]).weights == "random"


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("img_size=0", "img_size=0"),
        ("batch_size=-1", "batch_size=-1"),
        ("prompt_len=513", "prompt_len=513"),
        ("max_new_tokens=many", "max_new_tokens=many"),
        ("model=gpt", "model=gpt"),
        ("colour=red", "colour=red"),
        ("optimization=[fp16,bf16]", "fp16"),
        ("batch_size", "batch_size"),
    ],
)
def test_what_cannot_be_right_is_one_line_and_status_2(
    argument: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["cost", argument])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1


def test_the_command_itself() -> None:
    command = [sys.executable, "-m", "profiling.cost", "model=llava", "weights=tiny"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("llava, weights=tiny: ")


# Lists, conventions and files


def ask(*arguments: str) -> list[str]:
    return list(describe_question(read_question(arguments)))


def test_lists_make_a_row_for_each_point_and_convention(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "counts.json"
    ask(
        "model=llava,qwen25vl",
        "weights=tiny",
        "img_size=112,168",
        "convention=exact,macs",
        "--json",
        str(file),
    )
    counts = json.loads(file.read_text())["counts"]
    assert len(counts) == 8
    assert {(one["model"], one["img_size"], one["convention"]) for one in counts} == {
        (model, side, convention)
        for model in ("llava", "qwen25vl")
        for side in (112, 168)
        for convention in ("exact", "macs")
    }
    for one in counts:
        assert sum(entry["amount"] for entry in one["entries"]) == one["total"]
        phases = (one[phase] or 0 for phase in ("vision", "projector", "prefill", "decode"))
        assert sum(phases) == pytest.approx(one["total"])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_exact_convention_is_what_is_counted(name: str, tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    asked = (f"model={name}", "weights=tiny", "batch_size=2", "max_new_tokens=4")
    ask(*asked, "--csv", str(file))
    (row,) = csv.DictReader(file.open())
    printed = table(*asked)
    for phase in ("vision", "prefill", "decode", "total"):
        shown = float(printed[phase][0].replace(",", "")) * 1e9
        assert float(row[phase]) == pytest.approx(shown, abs=6e5)


def test_explained_lines_add_up_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lines.csv"
    lines = ask("model=llava", "weights=tiny", "convention=fastv", "--explain", f"--csv={file}")
    rows = list(csv.DictReader(file.open()))
    assert [row["formula"] for row in rows] == ["4nd²", "2n²d", "2ndm"]
    total = sum(float(row["amount"]) for row in rows)
    assert lines[-1].split()[-1] == f"{total / 1e9:,.3f}"


def test_numbers_of_tokens_can_be_given() -> None:
    lines = ask("model=llava", "weights=tiny", "visual_tokens=10,20", "prompt_tokens=40")
    rows = [line.split() for line in lines if line.split()[1:2] == ["exact"]]
    assert [row[0] for row in rows] == ["10", "20"]
    assert len({row[-2] for row in rows}) == 1


def test_a_device_is_predicted(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    lines = ask("model=llava", "weights=tiny", "gpu=h100,l4", "--json", str(file))
    assert sum(line.startswith("data sheet: ") for line in lines) == 2
    fast, slow = json.loads(file.read_text())["predictions"]
    assert fast["least_s"] < slow["least_s"]
    assert fast["fits"] is True
    assert fast["memory_bytes"] == sum(
        fast[part] for part in ("weight_bytes", "cache_bytes", "activation_bytes")
    )


@pytest.mark.parametrize("asked", [["convention=exact,macs"], ["convention=fastv", "--explain"]])
def test_a_file_has_what_was_asked_for_beside_devices(asked: list[str], tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    ask("model=llava", "weights=tiny", *asked, "gpu=h100,l4", f"--csv={file}")
    rows = list(csv.DictReader(file.open()))
    conventions = [row["convention"] for row in rows if row["convention"]]
    assert conventions == (["fastv"] * 3 if "--explain" in asked else ["exact", "macs"])
    devices = [row for row in rows if row["device"]]
    assert len(devices) == 2 and all(float(row["least_s"]) > 0 for row in devices)


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llava", ["optimization=int4", "optimization.int4.double=true"]),
        ("llava", ["optimization=token_pruning"]),
        pytest.param("llava", ["optimization=int4"], marks=pytest.mark.slow),
        pytest.param("blip2_t5", ["optimization=[bf16,int8]"], marks=pytest.mark.slow),
        pytest.param("qwen25vl", ["optimization=awq"], marks=pytest.mark.slow),
        pytest.param("llava", ["optimization=quantized_cache"], marks=pytest.mark.slow),
    ],
)
def test_stored_bytes_are_those_of_the_loaded_model(family: str, overrides: list[str]) -> None:
    overrides = [*overrides, "max_new_tokens=3"]
    counted = TransformersEngine.count(compose_point(f"model={family}", *overrides))
    engine = load(family, *overrides)
    # Buffers, such as the frequencies of positions, are no weights.
    assert counted.weight_bytes == pytest.approx(engine.footprint().model_bytes, rel=0.002)
    workload = make_workload(engine, batch_size=1, max_new_tokens=3, count=1)
    running = engine.costs(workload.encode(0), length=3, cross_check=False)
    for phase, moved in counted.phases.moved_bytes.items():
        assert moved == pytest.approx(running.moved_bytes[phase], rel=1e-3), phase


def test_fewer_bits_and_fewer_tokens_need_less_memory() -> None:
    plain, few, short = (
        TransformersEngine.count(compose_point("model=llava", f"optimization={name}"))
        for name in ("fp32", "quantized_cache", "token_pruning")
    )
    assert few.full_cache_bytes * 4 == plain.full_cache_bytes
    # Half of the 64 visual tokens are kept, in all 4 layers.
    lost = 32 * plain.cache_bytes
    assert plain.full_cache_bytes - short.full_cache_bytes == lost
    assert short.activation_bytes < plain.activation_bytes


def test_what_a_count_does_not_know_is_said(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    lines = ask(
        "model=llava",
        "weights=tiny",
        "optimization=fp32,prompt_lookup,int8",
        "gpu=h100",
        "--json",
        str(file),
    )
    plain, drafted, rounded = json.loads(file.read_text())["predictions"]
    assert plain["uncertain"] is None
    assert "token by token" in drafted["uncertain"] and "8 bits" in rounded["uncertain"]
    assert [line for line in lines if line.startswith("caution: ")] == [
        f"caution: {one['uncertain']}" for one in (drafted, rounded)
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["model=blip2_t5", "optimization=token_pruning"], "no visual token can be left out"),
        (["model=blip2_t5", "optimization=quantized_cache"], "no cache of an encoder-decoder"),
        (["model=blip2_opt", "optimization=assisted"], "hands no picture on"),
        (
            [
                "model=fuyu",
                "optimization=token_pruning",
                "optimization.token_pruning.method=prumerge",
            ],
            "this family has none",
        ),
        (
            [
                "model=llava",
                "optimization=token_pruning",
                "optimization.token_pruning.method=fastv",
                "optimization.token_pruning.layer=4",
            ],
            "layer=4: the decoder has 4 layers",
        ),
        (["model=llava", "optimization=[token_pruning,text_only]"], "needs a picture"),
        (["model=llava", "optimization=[token_pruning,compile]"], "fixes shapes"),
        (["model=llava", "optimization=[quantized_cache,compile]"], "cache of fixed length"),
        (["model=llava", "optimization=prompt_lookup", "batch_size=2"], "batch_size=1"),
        (["model=llava", "optimization=assisted", "optimization.assisted.layers=5"], "4 layers"),
    ],
)
def test_what_a_family_cannot_have_is_not_counted(arguments: list[str], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        list(describe_question(read_question(["weights=tiny", *arguments])))


@pytest.mark.parametrize(
    "argument",
    [
        "convention=tflops",
        "gpu=voodoo2",
        "visual_tokens=0",
        "prompt_tokens=-3",
        "prompt_tokens=1",
        "img_size=112,0",
        "model=glob(*)",
        "--csv",
        "--colour",
    ],
)
def test_what_only_this_command_has_is_refused_in_one_line_too(
    argument: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cost", "model=llava", "weights=tiny", argument])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert argument.lstrip("-").partition("=")[0] in told
