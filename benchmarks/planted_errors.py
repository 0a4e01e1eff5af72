"""Errors planted into functions for Qwen2.5-VL's modules, and who finds them.

    python -m benchmarks.planted_errors [--output docs/planted_errors.md]

Captures the tiny model with three kinds of values (trained, stressed, freshly initialised) in
float32 and bfloat16, plants one error at a time, and writes a table: what `profiling.verify` says,
and what Pearson's correlation above 0.999, cosine similarity above 0.999 and `allclose` say of the
same outputs.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import qwen25vl_functions as f
from profiling.capture import compose_point
from profiling.captures import capture
from profiling.captures.array_libraries import open_library
from profiling.captures.blind_spots import BlindSpots
from profiling.captures.double import captured_outputs
from profiling.captures.folder import Capture
from profiling.captures.judging import Judge, Verdict
from profiling.captures.point_calls import Run, encode_batches, load_engine

VALUES = ("trained", "stressed", "fresh")
DTYPES = (torch.float32, torch.bfloat16)
SIDE = 112
_TOKENS = 4
Function = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Planted:
    """Functions with one error, by the class of the module."""

    name: str
    functions: Mapping[str, Function]


class Changed:
    """Settings or arguments with some values replaced."""

    def __init__(self, inner: Any, **values: Any) -> None:
        self._inner, self._values = inner, values

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __getitem__(self, name: str) -> Any:
        return self._values[name] if name in self._values else self._inner[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._values[name] if name in self._values else self._inner.get(name, default)

    def named(self) -> dict[str, Any]:
        return {**self._inner.named(), **self._values}


def without(weights: Any, *paths: str) -> Any:
    """Nested weights without some of them."""
    if isinstance(weights, list):
        return dict(enumerate(weights))
    heads = {path.partition(".")[0] for path in paths}
    kept = {}
    for name, part in weights.items():
        inner = [p.partition(".")[2] for p in paths if p.partition(".")[0] == str(name)]
        if "" in inner:
            continue
        kept[name] = without(part, *inner) if str(name) in heads else part
    return kept


# Norms and activations


def norm_with(change: Callable[[Tensor, Tensor, float], Tensor]) -> Function:
    def norm(w: Any, s: Any, a: Any) -> Tensor:
        return change(a["hidden_states"], w["weight"], s.module["variance_epsilon"])

    return norm


def centred(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight, None, eps)


def mlp_with(activation: Callable[[Tensor], Tensor], swap: bool = False) -> Function:
    def mlp(w: Any, s: Any, a: Any) -> Tensor:
        (x,) = a.named().values()
        swapped = {**w, "gate_proj": w["up_proj"], "up_proj": w["gate_proj"]}
        return f.gated(x, swapped if swap else w, activation)

    return mlp


def merger_with(
    activation: Callable[[Tensor], Tensor] = functional.gelu,
    after: Callable[[Tensor], Tensor] = lambda y: y,
    leave_out: Sequence[str] = (),
) -> Function:
    def merger(w: Any, s: Any, a: Any) -> Tensor:
        kept = {**w, "mlp": without(dict(enumerate_parts(w["mlp"])), *leave_out)}
        x = f.rms_norm(a["x"], kept["ln_q"]["weight"], s.parts["ln_q"]["variance_epsilon"])
        joined = x.reshape(-1, s.module["hidden_size"])
        return after(f.linear(activation(f.linear(joined, kept["mlp"][0])), kept["mlp"][2]))

    return merger


def enumerate_parts(part: Any) -> Iterator[tuple[int, Any]]:
    yield from (enumerate(part) if isinstance(part, list) else part.items())


def patches_last(w: Any, s: Any, a: Any) -> Tensor:
    """The kernel flattened with its channels last, as for another memory layout."""
    kernel = w["proj"]["weight"]
    return functional.linear(a["hidden_states"], kernel.permute(0, 2, 3, 4, 1).flatten(1))


# Vision


def vision_with(
    lengths: Callable[[list[int]], list[int]] = lambda n: n, leave_out: Sequence[str] = ()
) -> Function:
    def attention(w: Any, s: Any, a: Any) -> Tensor:
        return f.attend_in_stretches(
            a["hidden_states"],
            without(w, *leave_out),
            a["position_embeddings"],
            lengths(a["cu_seqlens"].diff().tolist()),
            s.module["num_heads"],
        )

    return attention


def without_part_of_bias(w: Any, s: Any, a: Any) -> Tensor:
    bias = w["qkv"]["bias"].clone()
    bias[: 2 * len(bias) // 3] = 0
    return f.vision_attention({**w, "qkv": {**w["qkv"], "bias": bias}}, s, a)


def of_first_length(lengths: list[int]) -> list[int]:
    total, first = sum(lengths), lengths[0]
    rest = [total % first] if total % first else []
    return [first] * (total // first) + rest


def two_as_one(lengths: list[int]) -> list[int]:
    pairs = [sum(lengths[i : i + 2]) for i in range(0, len(lengths), 2)]
    return pairs


def swapped_axes(w: Any, s: Any, a: Any) -> Any:
    return f.vision_rotary(w, s, Changed(a, position_ids=a["position_ids"].flip(-1)))


def rounded_frequencies(function: Function) -> Function:
    def rotary(w: Any, s: Any, a: Any) -> Any:
        return function({**w, "inv_freq": w["inv_freq"].bfloat16().float()}, s, a)

    return rotary


def numbers_as_texts(number: int, whole: Any) -> bool:
    return str(number) in whole


# Text


def positions_with(change: Callable[[Tensor], Tensor]) -> Function:
    def rotary(w: Any, s: Any, a: Any) -> Any:
        return f.text_rotary(w, s, Changed(a, position_ids=change(a["position_ids"])))

    return rotary


def swapped_sections(w: Any, s: Any, a: Any) -> Any:
    sections = s.module["mrope_section"]
    return f.turn_text(w, sections[::-1], a["position_ids"], a["x"])


def one_later(places: Tensor) -> Tensor:
    return places + 1 if places.shape[-1] == 1 else places


def of_first_row(places: Tensor) -> Tensor:
    """One row's difference between tokens and positions is used for the whole batch."""
    if places.shape[-1] > 1 or places.shape[1] == 1:
        return places + (places.shape[-1] == 1)
    return places[:, :1].expand_as(places)


def attention_with(
    weights: Callable[[Any, Any], Any] = lambda w, s: w,
    mask: Callable[[Tensor | None], Tensor | None] = lambda m: m,
    cache: Callable[[Any], Any] = lambda c: c,
) -> Function:
    def attention(w: Any, s: Any, a: Any) -> Any:
        layer = s.module["layer_idx"]
        held = (a.get("past_key_values") or {}).get(layer)
        changed = Changed(
            a,
            attention_mask=mask(a.get("attention_mask")),
            past_key_values={} if held is None else {layer: cache(held)},
        )
        return f.attention(weights(w, s), s, changed)

    return attention


def dealt_in_turn(w: Any, s: Any) -> Any:
    """Heads of queries dealt to those of keys one by one, not in groups."""
    width = s.module["head_dim"]
    heads, keys = (w[n]["weight"].shape[0] // width for n in ("q_proj", "k_proj"))
    order = torch.arange(heads).reshape(heads // keys, keys).T.flatten()
    query = {n: t.unflatten(0, (heads, width))[order].flatten(0, 1) for n, t in w["q_proj"].items()}
    out = w["o_proj"]["weight"].unflatten(1, (heads, width))[:, order].flatten(1)
    return {**w, "q_proj": query, "o_proj": {"weight": out}}


def transposed(name: str) -> Callable[[Any, Any], Any]:
    return lambda w, s: {**w, name: {**w[name], "weight": w[name]["weight"].T}}


def see_padding(mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    order = torch.arange(mask.shape[-1]) <= torch.arange(mask.shape[-2])[:, None] + (
        mask.shape[-1] - mask.shape[-2]
    )
    return torch.ones_like(mask) & order


def see_one_more(mask: Tensor | None) -> Tensor | None:
    """Each token sees the one after it."""
    if mask is None or mask.shape[-2] == 1:
        return mask
    return mask | mask.roll(-1, -2)


def last_place_lost(held: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The last token of the cache was never written to its place."""
    keys, values = (functional.pad(part[:, :, :-1], (0, 0, 0, 1)) for part in held)
    return keys, values


def unscaled(w: Any, s: Any, a: Any) -> Any:
    root = s.module["head_dim"] ** 0.5
    query = {name: value * root for name, value in w["q_proj"].items()}
    return f.attention({**w, "q_proj": query}, s, a)


def pairs_beside(w: Any, s: Any, a: Any) -> Any:
    """Neighbours (2i, 2i + 1) are rotated, as other models do, and not halves."""
    width = s.module["head_dim"]
    order = torch.arange(width).reshape(2, -1).T.flatten()
    changed = {
        name: {n: t.unflatten(0, (-1, width))[:, order].flatten(0, 1) for n, t in w[name].items()}
        for name in ("q_proj", "k_proj")
    }
    return f.attention({**w, **changed}, s, a)["output"]


def without_residual(w: Any, s: Any, a: Any) -> Any:
    found = f.decoder_layer(w, s, a)
    inner = a["hidden_states"]
    return {**found, "output": found["output"] - inner}


def norms_swapped(w: Any, s: Any, a: Any) -> Any:
    names = ("input_layernorm", "post_attention_layernorm")
    return f.decoder_layer({**w, names[0]: w[names[1]], names[1]: w[names[0]]}, s, a)


NORM, MERGER, ROTARY = "Qwen2_5_VLRMSNorm", "Qwen2_5_VLPatchMerger", "Qwen2_5_VLRotaryEmbedding"
SEEING, SEEING_TURNS = "Qwen2_5_VLVisionAttention", "Qwen2_5_VLVisionRotaryEmbedding"
TOWER, ATTENTION = "Qwen2_5_VisionTransformerPretrainedModel", "Qwen2_5_VLAttention"
LAYER, MLPS = "Qwen2_5_VLDecoderLayer", ("Qwen2_5_VLMLP", "Qwen2MLP")

ERRORS: tuple[Planted, ...] = (
    Planted("merger: both biases left out", {MERGER: merger_with(leave_out=("0.bias", "2.bias"))}),
    Planted(
        "merger: tanh GELU", {MERGER: merger_with(partial(functional.gelu, approximate="tanh"))}
    ),
    Planted("merger: output times 1.05", {MERGER: merger_with(after=lambda y: y * 1.05)}),
    Planted(
        "merger: output plus 5% of its spread",
        {MERGER: merger_with(after=lambda y: y + 0.05 * y.std())},
    ),
    Planted("norm: epsilon times 10", {NORM: norm_with(lambda x, w, e: f.rms_norm(x, w, 10 * e))}),
    Planted(
        "norm: epsilon times 100", {NORM: norm_with(lambda x, w, e: f.rms_norm(x, w, 100 * e))}
    ),
    Planted(
        "norm: weight times 1.001", {NORM: norm_with(lambda x, w, e: f.rms_norm(x, 1.001 * w, e))}
    ),
    Planted("norm: weight left out", {NORM: norm_with(lambda x, w, e: f.rms_norm(x, w**0, e))}),
    Planted("norm: mean subtracted", {NORM: norm_with(centred)}),
    Planted("MLP: GELU for SiLU", dict.fromkeys(MLPS, mlp_with(functional.gelu))),
    Planted("MLP: gate and up swapped", dict.fromkeys(MLPS, mlp_with(functional.silu, swap=True))),
    Planted("patches: channels last", {"Qwen2_5_VisionPatchEmbed": patches_last}),
    Planted("vision: bias of qkv left out", {SEEING: vision_with(leave_out=("qkv.bias",))}),
    Planted("vision: bias of q and k left out", {SEEING: without_part_of_bias}),
    Planted("vision: every block sees all", {SEEING: vision_with(lambda n: [sum(n)])}),
    Planted("vision: windows of one length", {SEEING: vision_with(of_first_length)}),
    Planted("vision: two windows as one", {SEEING: vision_with(two_as_one)}),
    Planted("vision: rows and columns swapped", {SEEING_TURNS: swapped_axes}),
    Planted(
        "vision: block numbers as texts, never full attention",
        {TOWER: partial(f.tower, is_whole=numbers_as_texts, count=None)},
    ),
    Planted(
        "vision: a tower of one block", {TOWER: partial(f.tower, is_whole=f.is_listed, count=1)}
    ),
    Planted(
        "rotary: frequencies in bfloat16",
        {
            ROTARY: rounded_frequencies(f.text_rotary),
            SEEING_TURNS: rounded_frequencies(f.vision_rotary),
        },
    ),
    Planted("text: one axis of positions", {ROTARY: positions_with(lambda p: p[:1].expand_as(p))}),
    Planted("text: decoding one position later", {ROTARY: positions_with(one_later)}),
    Planted("text: stale position difference", {ROTARY: positions_with(of_first_row)}),
    Planted("text: sections of positions swapped", {ROTARY: swapped_sections}),
    Planted("text: heads of keys dealt wrongly", {ATTENTION: attention_with(dealt_in_turn)}),
    Planted(
        "text: bias of k left out",
        {ATTENTION: attention_with(lambda w, s: without(w, "k_proj.bias"))},
    ),
    Planted("text: o_proj transposed", {ATTENTION: attention_with(transposed("o_proj"))}),
    Planted("text: padding not masked", {ATTENTION: attention_with(mask=see_padding)}),
    Planted("text: mask off by one", {ATTENTION: attention_with(mask=see_one_more)}),
    Planted(
        "text: last place of the cache lost", {ATTENTION: attention_with(cache=last_place_lost)}
    ),
    Planted("text: attention not scaled", {ATTENTION: unscaled}),
    Planted("text: neighbours rotated, not halves", {ATTENTION: pairs_beside}),
    Planted("text: a residual dropped", {LAYER: without_residual}),
    Planted("text: the two norms swapped", {LAYER: norms_swapped}),
)


# Other ways to compute the same


def product(x: Tensor, w: Any) -> Tensor:
    y = x @ w["weight"].T
    return y + w["bias"] if "bias" in w else y


def norm_by_root(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = f.wide(x)
    return weight * (wide / ((wide * wide).mean(-1, keepdim=True) + eps).sqrt()).to(x.dtype)


def norm_scaled_before_rounding(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return f.rms_norm(f.wide(x), f.wide(weight), eps).to(x.dtype)


def linear_in_pieces(w: Any, s: Any, a: Any) -> Tensor:
    """Sums in another order: two halves of the products, in float32 as kernels accumulate."""
    x, weight = f.wide(a["input"]), f.wide(w["weight"])
    half = x.shape[-1] // 2
    y = x[..., :half] @ weight[:, :half].T + x[..., half:] @ weight[:, half:].T
    return (y + f.wide(w["bias"]) if "bias" in w else y).to(a["input"].dtype)


def qkv_apart(w: Any, s: Any, a: Any) -> Tensor:
    parts = [
        dict(zip(w["qkv"], p, strict=True))
        for p in zip(*(t.chunk(3) for t in w["qkv"].values()), strict=True)
    ]
    x, heads = a["hidden_states"], s.module["num_heads"]
    cos, sin = (f.wide(t).unsqueeze(1) for t in a["position_embeddings"])
    query, key, value = (product(x, part).unflatten(-1, (heads, -1)) for part in parts)
    query, key = (f.rotate(f.wide(t), (cos, sin)).to(x.dtype) for t in (query, key))
    stretch = torch.repeat_interleave(a["cu_seqlens"].diff())
    mask = stretch[:, None] == stretch
    scores = f.wide(query.transpose(0, 1)) @ f.wide(key.permute(1, 2, 0))
    shares = (scores * query.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    seen = (shares @ f.wide(value.transpose(0, 1))).to(x.dtype)
    return f.linear(seen.transpose(0, 1).flatten(1), w["proj"])


def merger_by_erf(w: Any, s: Any, a: Any) -> Tensor:
    def gelu(x: Tensor) -> Tensor:
        wide = f.wide(x)
        return (0.5 * wide * (1 + torch.erf(wide * 0.5**0.5))).to(x.dtype)

    return merger_with(gelu)(w, s, a)


def silu_by_exponential(x: Tensor) -> Tensor:
    wide = f.wide(x)
    return (wide / (1 + torch.exp(-wide))).to(x.dtype)


def patches_by_convolution(w: Any, s: Any, a: Any) -> Tensor:
    kernel = w["proj"]["weight"]
    x = a["hidden_states"].to(kernel.dtype).reshape(-1, *kernel.shape[1:])
    return functional.conv3d(x, kernel, stride=kernel.shape[2:]).flatten(1)


def attention_with_repeated_keys(w: Any, s: Any, a: Any) -> Any:
    """Heads of keys repeated, a softmax of one's own, and a mask that is added."""
    own, x = s.module, a["hidden_states"]
    query, key, value = (
        product(x, w[n]).unflatten(-1, (-1, own["head_dim"])).transpose(1, 2)
        for n in ("q_proj", "k_proj", "v_proj")
    )
    turns = tuple(t.unsqueeze(1) for t in a["position_embeddings"])
    query, key = f.rotate(query, turns), f.rotate(key, turns)
    held = (a.get("past_key_values") or {}).get(own["layer_idx"])
    if held is not None:
        key, value = torch.cat((held[0], key), 2), torch.cat((held[1], value), 2)
    repeats = own["num_key_value_groups"]
    keys, values = (f.wide(t.repeat_interleave(repeats, 1)) for t in (key, value))
    scores = f.wide(query) @ keys.mT * own["head_dim"] ** -0.5
    if (mask := a.get("attention_mask")) is not None:
        scores = scores + torch.where(mask, 0.0, torch.finfo(scores.dtype).min)
    elif x.shape[1] > 1:
        scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
    raised = (scores - scores.amax(-1, keepdim=True)).exp()
    seen = (raised @ values / raised.sum(-1, keepdim=True)).to(x.dtype)
    output = f.linear(seen.transpose(1, 2).flatten(2), w["o_proj"])
    return {"output": (output,), "cache": {own["layer_idx"]: (key, value)}}


VARIANTS: tuple[Planted, ...] = (
    Planted("norm: divided by a root", {NORM: norm_with(norm_by_root)}),
    Planted("norm: weight before rounding", {NORM: norm_with(norm_scaled_before_rounding)}),
    Planted("linear: sums in two pieces", {"Linear": linear_in_pieces}),
    Planted("vision: q, k, v apart, windows as a mask, softmax by hand", {SEEING: qkv_apart}),
    Planted("merger: GELU by erf", {MERGER: merger_by_erf}),
    Planted("MLP: SiLU by exp", dict.fromkeys(MLPS, mlp_with(silu_by_exponential))),
    Planted("patches: convolution", {"Qwen2_5_VisionPatchEmbed": patches_by_convolution}),
    Planted("text: keys repeated, softmax by hand", {ATTENTION: attention_with_repeated_keys}),
)


# Networks with three kinds of values


def make_network(values: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """An engine and a network of its own; buffers of positions stay in float32, as if loaded so."""
    engine = load_engine(compose_point(["model=qwen25vl", "weights=tiny"], "cpu"))
    network = engine.network
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if values == "stressed":
            stress(name, parameter, generator)
        elif values == "fresh":
            refresh(name, parameter, generator)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.to(dtype)
    for name, buffer in network.named_buffers():
        buffer.data = buffers[name]
    engine.model.dtype = dtype
    return engine, network


def stress(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Norms and biases far from neutral, so that nothing hides."""
    noise = torch.randn(parameter.shape, generator=generator)
    if parameter.ndim == 1:
        parameter.data = 1 + 0.5 * noise if name.endswith("weight") else 0.5 * noise
    elif name.endswith(("q_proj.weight", "k_proj.weight", "qkv.weight")):
        parameter.data = parameter * 1.5


def refresh(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """As a network of the library is before training."""
    if parameter.ndim == 1:
        parameter.data = torch.full(parameter.shape, float(name.endswith("weight")))
    else:
        parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)


def capture_network(values: str, dtype: torch.dtype, folder: Path) -> tuple[Capture, nn.Module]:
    engine, network = make_network(values, dtype)
    point = compose_point(["model=qwen25vl", f"img_size={SIDE}"], "cpu")
    batches = encode_batches(engine, point, Run(samples=1, uneven=2, tokens=_TOKENS))
    capturing = capture(network, folder, calls=2 * _TOKENS, weights=False)
    with capturing:
        for number, batch in enumerate(batches, start=1):
            capturing.limit = number * 2
            engine.generate(batch, length=_TOKENS, exact=True, trace=None)
    return Capture(folder), copy.deepcopy(network)


# Who finds what


class Bench:
    """One captured network; its calls are put to functions with an error."""

    def __init__(self, found: Capture, network: nn.Module) -> None:
        self.capture = found
        self._functions: Mapping[str, Function] = {}
        self.judge = Judge(
            capture=found,
            network=network,
            find=lambda call: self._functions.get(found.kind(call)),
            library=open_library("torch"),
        )

    def verdicts(self, functions: Mapping[str, Function]) -> list[Verdict]:
        """Only of the classes that the error is in."""
        self._functions = functions
        return self.judge.judge_all()

    def blind(self) -> list[Any]:
        return BlindSpots(self.capture, self.judge.exact, lambda call: True).find()

    def others(self, functions: Mapping[str, Function]) -> dict[str, bool]:
        """Whether each of the usual comparisons, call by call, finds the error."""
        self._functions = functions
        found = dict.fromkeys(OTHERS, False)
        for call in self.capture.calls:
            if self._functions.get(self.capture.kind(call)) is None:
                continue
            wanted = captured_outputs(self.capture, call)
            for path, array in self.judge.run(call, double=False).tensors.items():
                a, b = array.flatten().double(), wanted[path].flatten().double()
                for name, agrees in OTHERS.items():
                    found[name] |= a.shape != b.shape or not agrees(a, b)
        return found


def pearson(a: Tensor, b: Tensor) -> bool:
    return cosine(a - a.mean(), b - b.mean())


def cosine(a: Tensor, b: Tensor) -> bool:
    scale = float(a.norm() * b.norm())
    return not scale or float(a @ b) / scale > 0.999


def all_close(a: Tensor, b: Tensor) -> bool:
    """With the tolerances that ports are usually tested with."""
    return torch.allclose(a, b, rtol=1e-2, atol=1e-2)


OTHERS: Mapping[str, Callable[[Tensor, Tensor], bool]] = {
    "Pearson > 0.999": pearson,
    "cosine > 0.999": cosine,
    "allclose 1e-2": all_close,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/planted_errors.md"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.output.write_text("\n".join(write_tables()) + "\n", encoding="utf-8")


_HEAD = """# Planted errors

Made by `python -m benchmarks.planted_errors`. One error at a time is planted into functions that do
the work of the modules of the tiny Qwen2.5-VL, and the captured calls of those modules are judged.
A cell says whether the error was found: `yes`, `no`, or `hidden` where the function gives the same
on every captured call and the list of blind spots names the weights that hide it. `formula` and
`rounding` are the largest figures of `verify` (limits 1e-09 and 4). Values are those of the shipped
checkpoint (trained), with norms and biases drawn far from neutral (stressed), and as the library
initialises a network (fresh). A legitimate variant should be flagged by nobody."""


def write_tables() -> Iterator[str]:
    yield _HEAD
    for dtype in DTYPES:
        for values in VALUES:
            with tempfile.TemporaryDirectory() as folder:
                yield from write_table(values, dtype, Path(folder) / "calls")


def write_table(values: str, dtype: torch.dtype, folder: Path) -> Iterator[str]:
    bench = Bench(*capture_network(values, dtype, folder))
    blind = bench.blind()
    counts = dict.fromkeys(["verify", *OTHERS], 0)
    yield from ("", f"## {values} values, {str(dtype)[6:]}", "")
    yield f"| planted error | verify | formula | rounding | {' | '.join(OTHERS)} |"
    yield "|---|---|---|---|" + "---|" * len(OTHERS)
    for planted in ERRORS:
        row = look(bench, planted, blind)
        counts["verify"] += row.found
        for name in OTHERS:
            counts[name] += row.others[name]
        yield row.line(planted.name)
    total = " | ".join(f"{counts[name]} of {len(ERRORS)}" for name in OTHERS)
    yield f"| **found** | {counts['verify']} of {len(ERRORS)} | | | {total} |"
    yield from ("", f"| legitimate variant | verify | formula | rounding | {' | '.join(OTHERS)} |")
    yield "|---|---|---|---|" + "---|" * len(OTHERS)
    for planted in VARIANTS:
        yield look(bench, planted, blind).line(planted.name)


@dataclass(frozen=True, kw_only=True)
class Row:
    found: bool
    hidden: bool
    formula: float
    rounding: float
    others: Mapping[str, bool]

    def line(self, name: str) -> str:
        said = "hidden" if self.hidden else "yes" if self.found else "no"
        others = " | ".join("yes" if self.others[other] else "no" for other in OTHERS)
        return f"| {name} | {said} | {self.formula:.0e} | {self.rounding:.3g} | {others} |"


def look(bench: Bench, planted: Planted, blind: Sequence[Any]) -> Row:
    verdicts = bench.verdicts(planted.functions)
    found = any(not verdict.passes for verdict in verdicts)
    named = {spot.name for spot in blind if spot.subject == "weight"}
    modules = {verdict.call.module for verdict in verdicts}
    hidden = not found and any(name.startswith(tuple(f"{m}." for m in modules)) for name in named)
    return Row(
        found=found,
        hidden=hidden,
        formula=max(verdict.worst("formula") or 0.0 for verdict in verdicts),
        rounding=max(verdict.worst("rounding") or 0.0 for verdict in verdicts),
        others=bench.others(planted.functions),
    )


if __name__ == "__main__":
    main()
