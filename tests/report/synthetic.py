"""Write results folders like those of a sweep, from a simple model of costs."""

from __future__ import annotations

import base64
import csv
import hashlib
import itertools
import json
import random
import statistics
from pathlib import Path
from typing import Any

from profiling import metrics
from profiling.metrics import AT_READING, PHASES, SUMMARY_COLUMNS
from profiling.records import COMPARISONS, READING_FIELDS, SCHEMA_VERSION

# Markup that has to stay text wherever a page shows it.
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FAMILIES = {"blip2_opt": 1.0, "blip2_t5": 1.4, "fuyu": 2.2, "llava": 1.9, "qwen25vl": 1.2}
SPEED = {"baseline": 1.0, "fp32": 0.55, "bf16": 1.3, "int4": 0.8, "compile": 1.15}
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
MACHINE = {
    "cpu_model": "Synthetic CPU",
    "cpu_count": 2,
    "gpus": [],
    "gpu_driver": None,
    "operating_system": "Synthetic OS 1",
    "hostname": "synthetic",
}
DEFAULTS: dict[str, Any] = {
    "model": "llava",
    "weights": "tiny",
    "dataset": "textvqa",
    "optimization": "baseline",
    "img_size": 224,
    "prompt_len": None,
    "batch_size": 1,
    "max_new_tokens": 50,
    "device": "cpu",
}


def write_run(
    results_dir: Path,
    *,
    status: str = "completed",
    error: str | None = None,
    noisy: bool = False,
    slower: float = 1.0,
    seed: int = 0,
    samples: int = 8,
    repeats: int = 10,
    noise: float = 0.02,
    suffix: str = "",
    started_at: str = "2026-01-02T03:04:05+00:00",
    machine: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    answers: list[str] | None = None,
    **settings: Any,
) -> Path:
    """One record folder; `settings` are the sweep's keys, `summary` overrides single columns."""
    point = {**DEFAULTS, **settings}
    fingerprint = hashlib.sha256(
        json.dumps([point, machine, slower], sort_keys=True).encode()
    ).hexdigest()[:16]
    folder = results_dir / f"{fingerprint}{suffix}"
    folder.mkdir(parents=True)
    draw = random.Random(f"{fingerprint}{suffix}{seed}")
    complete = status == "completed"
    columns: dict[str, Any] = {column: point.get(column) for column in SUMMARY_COLUMNS}
    dtype = DTYPES.get(str(point["optimization"]).split("+")[0], "float32")
    columns |= {"dtype": dtype, "num_samples": samples, "noisy": noisy, "engine": None}
    columns["noise_reason"] = "load average 3.1 on 2 cores" if noisy else None
    if complete:
        rows = _raw_rows(point, draw, repeats=repeats, slower=slower, noise=noise)
        columns |= _costs(point, rows) | _means(point)
        lines = _answer_lines(point, draw, samples, answers)
        columns["wer"] = statistics.fmean(line["wer"] for line in lines)
        columns |= summary or {}
        _write_readings(folder, columns, rows)
        _write_answers(folder, lines)
    for column in (*AT_READING, "fingerprint", "status"):
        del columns[column]
    run = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": fingerprint,
        "status": status,
        "error": error,
        "config": _config(point, results_dir),
        "machine": machine or MACHINE,
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "git": {"commit": "0" * 40, "dirty": False},
        "started_at": started_at,
        "finished_at": started_at,
        "summary": columns,
    }
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    return folder


def write_digests(folder: Path, **own: str) -> Path:
    """Add the digests that records of real runs have."""
    path = folder / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["digests"] = {"code": "0c", "samples": "05", "weights": "03", **own}
    path.write_text(json.dumps(run), encoding="utf-8")
    return folder


def write_timed(
    results_dir: Path,
    phases: dict[str, list[float]],
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.96,
    summary: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A run whose repeats took these times by phase, and whose interval is given."""
    totals = [sum(times) for times in zip(*phases.values(), strict=True)]
    columns: dict[str, Any] = {f"{phase}_s": None for phase in PHASES}
    columns |= {f"{phase}_s": statistics.median(times) for phase, times in phases.items()}
    columns |= {"latency_s": statistics.median(totals), "num_repeats": len(totals)}
    ends = bounds or (None, None)
    columns |= {"latency_ci_low_s": ends[0], "latency_ci_high_s": ends[1]}
    folder = write_run(results_dir, summary=columns | (summary or {}), **settings)
    rows = [
        (phase, repeat, value)
        for phase, times in {**phases, "total": totals}.items()
        for repeat, value in enumerate(times)
    ]
    _write_readings(folder, {}, rows)
    source = f"order statistics, confidence {confidence:.1%} for this process"
    with (folder / "readings.csv").open("a", encoding="utf-8") as stream:
        stream.write(f'total,latency_ci_low_s,0.1,s,measured,"{source}",,\n')
    return folder


def write_comparison(
    a: Path,
    b: Path,
    *,
    ratio: float,
    reach: float | None = 1.02,
    launches: int = 5,
    noisy: bool = False,
    phases: dict[str, float] | None = None,
    name: str = "",
    **changes: Any,
) -> Path:
    """A paired comparison of two runs beside their records; `ratio` is A's time over B's.

    `reach` is the upper end of the interval over the ratio; without one there is no interval.
    """
    sides = [folder.name.partition("-")[0] for folder in (a, b)]
    folder = a.parent / COMPARISONS / (name or "-".join(sides))
    folder.mkdir(parents=True)
    written = {
        "a": sides[0],
        "b": sides[1],
        "launches": launches,
        "pairs": 24 * launches,
        **_ratio(ratio, reach),
        "phases": {
            phase: _ratio(value, reach) | {"launches": launches, "pairs": 24 * launches}
            for phase, value in (phases or {}).items()
        },
        "between_launch_sd": 0.01,
        "within_launch_sd": 0.05,
        "noisy": noisy,
        **changes,
    }
    (folder / "comparison.json").write_text(json.dumps(written) + "\n", encoding="utf-8")
    return folder


def _ratio(value: float, reach: float | None) -> dict[str, float | None]:
    ends = (None, None) if reach is None else (value / reach, value * reach)
    return {"ratio": value, "ci_low": ends[0], "ci_high": ends[1]}


def write_samples(folder: Path) -> None:
    """A data set of one sample, whose picture is a pixel."""
    (folder / "one.png").write_bytes(PIXEL)
    entry = {"id": "sample-0", "image_path": "one.png", "response": "sign number 0"}
    (folder / "samples.json").write_text(json.dumps([entry]), encoding="utf-8")


def write_hostile(results_dir: Path, samples: Path, *, img_size: int) -> None:
    """A run whose answers are markup and whose record names a folder of samples."""
    hostile = write_run(results_dir, img_size=img_size, model="fuyu", answers=[HOSTILE] * 8)
    run = json.loads((hostile / "run.json").read_text(encoding="utf-8"))
    run["config"]["dataset"]["folder"] = str(samples)
    (hostile / "run.json").write_text(json.dumps(run), encoding="utf-8")


def write_many(results_dir: Path, count: int) -> None:
    """A sweep over everything at once, cut off after `count` runs."""
    grid = itertools.product(
        FAMILIES,
        (112, 224, 336, 448, 560),
        (1, 4, 8, 16),
        SPEED,
        (None, 16, 64, 128, 256),
        ("textvqa", "coco", "scienceqa"),
        range(3),
    )
    for number, values in enumerate(_spread(list(grid), count)):
        model, img_size, batch_size, optimization, prompt_len, dataset, seed = values
        write_run(
            results_dir,
            model=model,
            img_size=img_size,
            batch_size=batch_size,
            optimization=optimization,
            prompt_len=prompt_len,
            dataset=dataset,
            suffix=f"-{seed + 2}" if seed else "",
            noisy=number % 50 == 0,
            status="out_of_memory" if number % 97 == 0 else "completed",
        )


def _spread(grid: list[Any], count: int) -> list[Any]:
    """Points from the whole grid, with complete sweeps, and not only its first corner."""
    order = sorted(
        range(len(grid)), key=lambda i: (grid[i][-1], grid[i][-2], grid[i][-3] is not None)
    )
    if count > len(grid):
        raise ValueError(f"the grid has {len(grid)} points")
    return [grid[i] for i in order[:count]]


def _config(point: dict[str, Any], results_dir: Path) -> dict[str, Any]:
    names = point["optimization"].split("+")
    return {
        **point,
        "model": {"name": point["model"], "checkpoint": None, "revision": None},
        "dataset": {"name": point["dataset"], "folder": f"/data/{point['dataset']}"},
        "optimization": {name: {"name": name, "kind": _kind(name)} for name in names},
        "num_samples": point.get("num_samples"),
        "seed": 0,
        "preload": True,
        "profiler": {"name": "quick"},
        "results_dir": str(results_dir),
        "resume": True,
        "strict": False,
    }


def _kind(optimization: str) -> str:
    return "dtype" if optimization in DTYPES else optimization


def _means(point: dict[str, Any]) -> dict[str, float]:
    question = float(point["prompt_len"] or 14)
    visual = float((point["img_size"] // 14) ** 2)
    return {
        "num_question_tokens": question,
        "num_visual_tokens": visual,
        "num_prompt_tokens": question + visual + 8,
        "num_new_tokens": 6.5,
    }


def _raw_rows(
    point: dict[str, Any], draw: random.Random, *, repeats: int, slower: float, noise: float
) -> list[tuple[str, int, float]]:
    tokens = _means(point)
    batch, weight = point["batch_size"], FAMILIES[point["model"]]
    speed = 1.0
    for name in point["optimization"].split("+"):
        speed *= SPEED.get(name, 1.0)
    base = {
        "preprocess": 0.002 * batch,
        "transfer": 0.0001 * batch,
        "vision": 4e-6 * weight * batch * tokens["num_visual_tokens"] ** 1.3 / speed,
        "projector": 1e-6 * weight * batch * tokens["num_visual_tokens"],
        "prefill": 1e-5 * weight * batch * tokens["num_prompt_tokens"] ** 1.1 / speed,
        "decode": 4e-4 * weight * point["max_new_tokens"] * (1 + 0.05 * batch) / speed,
        "other": 0.0008,
    }
    rows = []
    for repeat in range(repeats):
        drift = slower * (1 + noise * draw.gauss(0, 1))
        for phase, value in base.items():
            rows.append((phase, repeat, value * drift))
        rows.append(("total", repeat, sum(base.values()) * drift))
    return rows


def _costs(point: dict[str, Any], rows: list[tuple[str, int, float]]) -> dict[str, float | str]:
    latencies = sorted(value for phase, _, value in rows if phase == "total")
    latency = statistics.median(latencies)
    costs: dict[str, float | str] = {
        "num_repeats": len(latencies),
        "latency_s": latency,
        "latency_mean_s": statistics.fmean(latencies),
        "latency_std_s": statistics.stdev(latencies) if len(latencies) > 1 else 0.0,
        "latency_min_s": latencies[0],
        "latency_max_s": latencies[-1],
        "latency_ci_low_s": latencies[1],
        "latency_ci_high_s": latencies[-2],
    }
    for phase in PHASES:
        costs[f"{phase}_s"] = statistics.median(v for name, _, v in rows if name == phase)
    tokens = _means(point)
    flops = {
        "vision": 1e8 * tokens["num_visual_tokens"],
        "projector": 1e6 * tokens["num_visual_tokens"],
        "prefill": 2e8 * tokens["num_prompt_tokens"],
        "decode": 2e8 * point["max_new_tokens"],
    }
    batch = point["batch_size"]
    costs |= {f"flops_{phase}": value * batch for phase, value in flops.items()}
    for phase in flops:
        costs[f"moved_{phase}_bytes"] = 4e6 * (point["max_new_tokens"] if phase == "decode" else 1)
    return costs | {
        "peak_flops_per_s": 1e14,
        "peak_bytes_per_s": 1e10,
        "flops": sum(flops.values()) * batch,
        "ttft_s": latency - float(costs["decode_s"]),
        "tpot_s": float(costs["decode_s"]) / point["max_new_tokens"],
        "samples_per_s": batch / latency,
        "tokens_per_s": batch * point["max_new_tokens"] / latency,
        "energy_estimate_j": 30 * latency / batch,
        "energy_estimate_source": "codecarbon: constant power",
        "peak_memory_bytes": 2e8 + 1e5 * tokens["num_prompt_tokens"] * batch,
        "peak_memory_source": "kernel high-water mark",
        "model_bytes": 6e6,
        "load_s": 0.4,
        "mfu_prefill": 0.31,
        "mbu_decode": 0.42,
    }


def _answer_lines(
    point: dict[str, Any], draw: random.Random, samples: int, answers: list[str] | None
) -> list[dict[str, Any]]:
    tokens = _means(point)
    lines = []
    for number in range(samples):
        right = f"sign number {number}"
        wrong = draw.random() < (0.05 if point["optimization"] == "baseline" else 0.2)
        answer = answers[number] if answers else ("sign number x" if wrong else right)
        lines.append(
            {
                "id": f"sample-{number}",
                "prompt": f"What does sign {number} say?",
                "references": [right],
                "answer": answer,
                "wer": 0.0 if answer == right else 1 / 3,
                "num_question_tokens": int(tokens["num_question_tokens"]),
                "num_prompt_tokens": int(tokens["num_prompt_tokens"]),
                "num_visual_tokens": int(tokens["num_visual_tokens"]),
                "num_new_tokens": 6,
                "image_width": point["img_size"],
                "image_height": point["img_size"],
            }
        )
    return lines


def _write_answers(folder: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "answers.jsonl").write_text(text, encoding="utf-8")


def _write_readings(
    folder: Path, columns: dict[str, Any], rows: list[tuple[str, int, float]]
) -> None:
    with (folder / "readings.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(READING_FIELDS)
        for phase, repeat, value in rows:
            writer.writerow([phase, "latency_s", repr(value), "s", "measured", "clock", repeat, 0])
        for name, value in columns.items():
            if isinstance(value, float):
                unit = metrics.find(name).unit
                status = "estimated" if "estimate" in name else "measured"
                writer.writerow(["total", name, repr(value), unit, status, "clock", "", ""])
        writer.writerow(["run", "energy_j", "", "J", "unavailable", "no counter, here", "", ""])
