"""Command lines from a grammar: right ones, wrong ones, and those that nobody would type."""

from __future__ import annotations

import random

KEYS = (
    *("model", "weights", "engine", "optimization", "dataset", "dataset.folder", "img_size"),
    *("prompt_len", "round", "batch_size", "max_new_tokens", "num_samples", "seed", "device"),
    *("threads", "preload", "profiler", "profiler.repeats", "profiler.time_budget_s"),
    *("results_dir", "resume", "strict", "share_device", "tracker", "experiment"),
    *("model.checkpoint", "model.revision", "model.dtype", "engine.url", "hydra/launcher"),
    *("img_siz", "prompt_length", "batch", "", "model.", ".", "optimization.int8.engine"),
    *("hydra.run.dir", "hydra.verbose", "k" * 10_000),
)
NAMES = (
    *("qwen25vl", "llava", "tiny", "random", "pretrained", "torch", "endpoint", "baseline"),
    *("bf16", "int8", "onnx_vision", "textvqa", "coco", "quick", "full", "none", "mlflow"),
    *("auto", "cpu", "cuda", "cuda:7", "image_size", "optimizations", "true", "false", "null"),
)
NUMBERS = ("0", "1", "-1", "2", "112", "224", "513", "1.5", "1e9", "1e999", "nan", "inf", "-inf")
HUGE = ("10" * 8, "9" * 32, "9" * 999, "9" * 5000, "-" + "9" * 400, "1" + "_000" * 500)
TEXTS = (
    *("", " ", "'", '"', "a b", "`x`", "$HOME", "${oc.env:HOME}", "${nope}", "${", "}", "???"),
    *("../..", "/dev/zero", "/etc/passwd", "/" + "x" * 5000, "\x1b[31m", "<img>", "é", "日本"),
    *("a=b", "a,b", "a:b", "\\", "!", "#", "%s", "{}", "{a:1}", "[", "[]", "[[]]", "[" * 300),
)
SWEEPS = (
    *("1,2", "1,2,3,", ",", "112,224", "bf16,int8", "[bf16,int8]", "[fp16,bf16]", "range(1,3)"),
    *("range(3,1)", "range(1,3,0)", "range(0,100000000)", "range(0,1e30)", "range(a,b)"),
    *("range(0," + "9" * 50 + ")", "glob(*)", "glob(nope)", "glob(b*)", "choice(1,2)", "sort(2,1)"),
    *("interval(1,2)", "tag(t,1)", "shuffle(1,2)", "int(1.5)", "str(3)", "choice()"),
)
RIGHT = (
    *("model=llava", "model=llava,qwen25vl", "model=glob(b*)", "weights=random", "img_size=112"),
    *("img_size=112,224", "batch_size=1,2", "seed=range(0,3)", "profiler=quick", "prompt_len=5"),
    *("optimization=bf16", "optimization=[bf16,int8]", "experiment=image_size", "dataset=coco"),
    *("num_samples=1", "max_new_tokens=3", "round=1,2", "resume=false", "strict=true"),
)
FLAGS = ("-m", "--multirun", "-h", "--help", "--cfg", "--cfg=job", "--nope", "-x", "--", "-")
VALUES = (NAMES, NAMES, NUMBERS, NUMBERS, HUGE, TEXTS, SWEEPS)
# What every command line ends with, so that none measures anything.
HARMLESS = "dry=true"


def make_lines(*, count: int, seed: int) -> list[list[str]]:
    chance = random.Random(seed)
    return [_make_line(chance) for _ in range(count)]


def _make_line(chance: random.Random) -> list[str]:
    right = [chance.choice(RIGHT) for _ in range(chance.randint(0, 3))]
    wrong = [_make_word(chance) for _ in range(chance.choice((0, 0, 1, 1, 1, 2)))]
    words = chance.sample([*right, *wrong], len(right) + len(wrong))
    flags = ["-m"] if chance.random() < 0.5 else []
    if chance.random() < 0.1:
        flags.append(chance.choice(FLAGS))
    return [*flags, *words, HARMLESS]


def _make_word(chance: random.Random) -> str:
    value = chance.choice(chance.choice(VALUES))
    if chance.random() < 0.05:
        return value
    sign = chance.choice(["", "", "", "", "", "", "+", "++", "~"])
    return f"{sign}{chance.choice(KEYS)}={value}"
