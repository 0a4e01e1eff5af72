"""From pictures and questions to answers with the saved parts of a model: numpy and tokenizers.

What opens a part is a script of its own for each framework, which ends in `main`. Several questions
are answered as one batch: repeat --image and --text, in the same order. A question about several
pictures takes them as `--image ONE TWO`, for models whose prompt has a place for them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy
import tokenizers
from numpy.typing import NDArray

from profiling.models.special_texts import escape_special_texts
from profiling.models.windows import attention_indices
from profiling.partition.vision_inference import make_feeds, obtain_picture, see

Array = NDArray[Any]
Shape = Sequence[int | str]
_LOWEST = numpy.finfo(numpy.float32).min
MANIFEST, RECIPE, TOKENIZER = "manifest.json", "pipeline.json", "tokenizer.json"
# A digest of everything else in a manifest, and one of the weights that parts were made of.
DIGEST, WEIGHTS = "digest", "weights_digest"


class Part(Protocol):
    """An opened part."""

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """The shape of each input, in which what varies has a name."""

    @property
    def outputs(self) -> Sequence[str]: ...

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in order; every input has to be given."""


# Opens a part of a folder: what the manifest says of it, and the number of threads (0: as many as
# the framework takes).
Open = Callable[[Path, Mapping[str, Any], int], Part]


def main(*, parts: Path, folder: Path, open_part: Open, about: str | None) -> None:
    """A script's command line; what it prints is the answers, one a line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--image", required=True, type=Path, nargs="+", action="append")
    parser.add_argument("--text", required=True, action="append")
    parser.add_argument("--max-tokens", default=128, type=int)
    parser.add_argument("--threads", default=0, type=int, help="0: chosen by the framework")
    parser.add_argument("--parts", default=parts, type=Path)
    parser.add_argument("--json", type=Path, help="write tokens and times to this file")
    chosen = parser.parse_args()
    if len(chosen.image) != len(chosen.text):
        sys.exit(f"{len(chosen.text)} --text need as many --image, there are {len(chosen.image)}")
    for name, value, least in (
        ("--max-tokens", chosen.max_tokens, 1),
        ("--threads", chosen.threads, 0),
    ):
        if value < least:
            sys.exit(f"{name} {value}: allowed is a whole number from {least}")
    begun_s = time.perf_counter()
    pipeline = Pipeline(chosen.parts, folder, open_part=open_part, threads=chosen.threads)
    opened_s = time.perf_counter()
    tokens = pipeline.answer(chosen.image, chosen.text, length=chosen.max_tokens)
    answered_s = time.perf_counter()
    if chosen.json is not None:
        times = {"load_s": opened_s - begun_s, "latency_s": answered_s - opened_s}
        try:
            chosen.json.write_text(json.dumps({"tokens": tokens, **times}), encoding="utf-8")
        except OSError as problem:
            sys.exit(f"--json: {problem}")
    for row in tokens:
        print(pipeline.decode(row))


class Pipeline:
    """The parts of one model, from pictures and questions to answers."""

    def __init__(self, parts: Path, folder: Path, *, open_part: Open, threads: int) -> None:
        manifest, own = read_manifest(parts), read_manifest(folder)
        for place, told in {parts: manifest, folder: own}.items():
            check_all(place, told)
        if manifest.get(WEIGHTS) != own.get(WEIGHTS):
            sys.exit(f"{parts / MANIFEST} lists parts of other weights than those of {folder}")
        if "parts" not in manifest:
            sys.exit(f"{parts / MANIFEST} lists no parts")
        self.recipe = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_padding()
        # Parts of fixed shapes take one question about one picture.
        self.one_by_one = manifest.get("shapes") == "fixed"
        self.parts = {
            name: open_part(parts, told, threads) for name, told in manifest["parts"].items()
        }

    def run(self, part: str, feeds: Mapping[str, Array]) -> list[Array]:
        return self.parts[part].run(feeds)

    def answer(
        self, pictures: Sequence[Sequence[Path]], texts: Sequence[str], *, length: int
    ) -> list[list[int]]:
        """The new tokens for each question, each about its own pictures."""
        if self.one_by_one and len(texts) > 1:
            rows = zip(pictures, texts, strict=True)
            return [self.answer([row], [text], length=length)[0] for row, text in rows]
        if self.one_by_one and len(pictures[0]) > 1:
            sys.exit("what was saved has fixed shapes and takes one picture a question")
        seen = [
            see(obtain_picture(path), self.recipe["picture"]) for row in pictures for path in row
        ]
        embeddings, sizes = self.embed_pictures(seen)
        counts = iter(sizes)
        prompts = [
            self.write_prompt(text, [next(counts) for _ in row])
            for text, row in zip(texts, pictures, strict=True)
        ]
        ids, mask = pad(prompts, self.recipe["pad_token_id"], self.recipe["padding_side"])
        return self.generate(ids, mask, embeddings, self.grids(seen), length=length)

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.strip()

    def grids(self, seen: Sequence[Array]) -> Array:
        """Frames, rows and columns of patches of each picture."""
        patch = self.recipe["prompt"]["patch"]
        if patch is None:
            return numpy.zeros((len(seen), 3), numpy.int64)
        return numpy.array([[1, p.shape[1] // patch, p.shape[2] // patch] for p in seen])

    def embed_pictures(self, seen: Sequence[Array]) -> tuple[Array, list[tuple[int, int]]]:
        """The embeddings of all pictures, and of each how many it has and in how many columns."""
        recipe, multiple = self.recipe["picture"], self.recipe["prompt"]["multiple"]
        feeds = {"pixel_values": numpy.concatenate([pixels_of(p, recipe) for p in seen])}
        if recipe["window"] is not None:
            merge, window = recipe["patches"]["merge"], recipe["window"]
            indices = attention_indices(self.grids(seen).tolist(), merge=merge, window=window)
            feeds |= indices
        (embeddings,) = self.run("vision_encoder", feeds)
        if not self.recipe["by_area"]:
            return embeddings, [(len(embeddings) // len(seen), 0)] * len(seen)
        sides = [(p.shape[1] // multiple, p.shape[2] // multiple) for p in seen]
        return embeddings, [(rows * columns, columns) for rows, columns in sides]

    def write_prompt(self, question: str, pictures: Sequence[tuple[int, int]]) -> list[int]:
        """The ids of a prompt, with one placeholder for each embedding of its pictures."""
        recipe = self.recipe["prompt"]
        escaped = escape_special_texts(question, recipe["special_texts"])
        text = recipe["template"].replace(recipe["mark"], escaped)
        ids = self.tokenizer.encode(text, add_special_tokens=recipe["add_special_tokens"]).ids
        token = recipe["image_token_id"]
        blocks = [self.placeholders(count, columns) for count, columns in pictures]
        if not recipe["in_place"]:
            if len(blocks) > 1:
                sys.exit("this model takes one picture a question")
            return [*blocks[0], *recipe["after_picture"], *ids]
        place = ids.index(token)
        around = self.recipe["around_picture"]
        first, last = (around[0], around[1]) if around else ([], [])
        begin, end = place - len(first), place + 1 + len(last)
        inner = [part for block in blocks for part in (*first, *block, *last)]
        return [*ids[:begin], *inner, *ids[end:]]

    def placeholders(self, count: int, columns: int) -> list[int]:
        recipe = self.recipe["prompt"]
        if recipe["row_end_id"] is None:
            return [recipe["image_token_id"]] * count
        row = [recipe["image_token_id"]] * columns + [recipe["row_end_id"]]
        return row * (count // columns)

    def generate(
        self, ids: Array, mask: Array, embeddings: Array, grids: Array, *, length: int
    ) -> list[list[int]]:
        """The new tokens of each row up to its own end."""
        (text,) = self.run("text_embedding", {"input_ids": ids})
        (fused,) = self.run(
            "fusion", {"input_ids": ids, "text_embeds": text, "picture_embeds": embeddings}
        )
        if "encoder" in self.parts:
            decoder: Decoder = self.encode(fused, mask)
            fused = self.embed(numpy.full((len(ids), 1), self.recipe["start_token_id"]))
            mask = numpy.ones((len(ids), 1), numpy.int64)
        else:
            decoder = Decoder(self.parts["decoder"], len(ids), {})
        placed = self.first_positions(ids, mask, grids)
        return self.choose(decoder, fused, mask, placed, self.seen_before(ids), length)

    def seen_before(self, ids: Array) -> Array:
        """The tokens of each row that a repetition penalty counts from the beginning."""
        start = self.recipe["start_token_id"]
        return numpy.full((len(ids), 1), start) if "encoder" in self.parts else ids

    def encode(self, fused: Array, mask: Array) -> Decoder:
        bias = bias_of(mask, 1)
        made = self.run("encoder", {"inputs_embeds": fused, "bias": bias})
        names = self.parts["encoder"].outputs
        cross = {"cross_bias": bias, **dict(zip(names, made, strict=True))}
        return Decoder(self.parts["decoder"], len(fused), cross)

    def embed(self, ids: Array) -> Array:
        return self.run("text_embedding", {"input_ids": ids.astype(numpy.int64)})[0]

    def first_positions(self, ids: Array, mask: Array, grids: Array) -> tuple[Array | None, ...]:
        """The positions of the prompt, and what later ones are shifted by."""
        if "rotary_with_vision" in self.parts:
            feeds = {"input_ids": ids, "attention_mask": mask, "image_grid_thw": grids}
            positions, deltas = self.run("rotary_with_vision", feeds)
            return positions, deltas
        if "rotary_text" in self.parts:
            return self.run("rotary_text", {"attention_mask": mask})[0], None
        return None, None

    def next_positions(self, mask: Array, deltas: Array | None) -> Array | None:
        if "rotary_text" not in self.parts:
            return None
        feeds = {"attention_mask": mask} | ({} if deltas is None else {"rope_deltas": deltas})
        return numpy.ascontiguousarray(self.run("rotary_text", feeds)[0][..., -1:])

    def choose(
        self,
        decoder: Decoder,
        fused: Array,
        mask: Array,
        placed: tuple[Array | None, ...],
        seen: Array,
        length: int,
    ) -> list[list[int]]:
        """Greedy choices, until every row has ended."""
        positions, deltas = placed
        penalty = self.recipe["repetition_penalty"]
        rows: list[list[int]] = [[] for _ in mask]
        ended = numpy.zeros(len(mask), bool)
        for step in range(length):
            self.check_length(mask)
            logits = decoder.step(fused, mask, positions)
            tokens = lower_repeated(logits, seen, penalty).argmax(-1)
            for row in numpy.flatnonzero(~ended):
                rows[row].append(int(tokens[row]))
            ended |= numpy.isin(tokens, self.recipe["eos_token_ids"])
            if ended.all() or step + 1 == length:
                break
            # A row that has ended goes on with padding, which nobody reads.
            tokens = numpy.where(ended, self.recipe["pad_token_id"], tokens)
            seen = numpy.concatenate([seen, tokens[:, None]], axis=1)
            mask = numpy.concatenate([mask, numpy.ones((len(mask), 1), numpy.int64)], axis=1)
            fused, positions = self.embed(tokens[:, None]), self.next_positions(mask, deltas)
        return rows

    def check_length(self, mask: Array) -> None:
        """End where positions were not learned: some frameworks read others in silence."""
        longest, tokens = self.recipe["prompt"]["longest"], int(mask.sum(axis=1).max())
        if longest is not None and tokens > longest:
            sys.exit(
                f"prompt and answer have {tokens} tokens, and this model takes up to {longest}:"
                " ask a shorter question, or for fewer --max-tokens"
            )


class Decoder:
    """The decoder and the keys and values of one batch."""

    def __init__(self, part: Part, batch: int, cross: Mapping[str, Array]) -> None:
        self.part, self.cross = part, dict(cross)
        past = {name: shape for name, shape in part.inputs.items() if name.startswith("past_")}
        self.names = list(past)
        shapes = [(batch, int(shape[1]), 0, int(shape[3])) for shape in past.values()]
        self.kept = [numpy.zeros(shape, numpy.float32) for shape in shapes]

    def step(self, fused: Array, mask: Array, positions: Array | None) -> Array:
        """The logits [B, V] behind the last of these tokens, which join the cache."""
        feeds = {"inputs_embeds": fused, "bias": bias_of(mask, fused.shape[1]), **self.cross}
        if positions is not None:
            feeds["position_ids"] = positions
        feeds |= dict(zip(self.names, self.kept, strict=True))
        logits, *self.kept = self.part.run(feeds)
        last: Array = logits[:, -1]
        return last


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of parts, as it was written."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = manifest.get(DIGEST)
    except OSError as problem:
        sys.exit(f"{path} cannot be read: {problem.strerror}")
    except (ValueError, AttributeError):
        sys.exit(f"{path} is not a manifest of parts")
    if known != digest_manifest(manifest):
        sys.exit(f"{path} is not as it was written: its digest differs")
    return manifest


def digest_manifest(manifest: Mapping[str, Any]) -> str:
    told = {name: value for name, value in manifest.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_all(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder with a file that is not as it was written."""
    check_files(folder, manifest.get("files", {}))
    for told in manifest.get("parts", {}).values():
        check_files(folder, told["files"])


def check_files(folder: Path, files: Mapping[str, Any]) -> None:
    for name, told in files.items():
        path = folder / name
        if not path.is_file():
            sys.exit(f"{path} is missing, and {MANIFEST} lists it")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != told["sha256"]:
            sys.exit(f"{path} is not the file that {MANIFEST} lists: its digest differs")


def pixels_of(picture: Array, recipe: dict[str, Any]) -> Array:
    return numpy.ascontiguousarray(make_feeds(picture, recipe)["pixel_values"])


def pad(rows: Sequence[Sequence[int]], token: int, side: str) -> tuple[Array, Array]:
    """Ids [B, S] and their mask, rows filled up on one side."""
    longest = max(map(len, rows))
    ids = numpy.full((len(rows), longest), token, numpy.int64)
    mask = numpy.zeros_like(ids)
    for index, row in enumerate(rows):
        start = longest - len(row) if side == "left" else 0
        ids[index, start : start + len(row)] = row
        mask[index, start : start + len(row)] = 1
    return ids, mask


def lower_repeated(logits: Array, seen: Array, penalty: float) -> Array:
    """Logits [B, V] in which those of tokens that were seen [B, S] are lowered."""
    if penalty == 1:
        return logits
    scores = logits.astype(numpy.float32)
    found = numpy.take_along_axis(scores, seen, axis=1)
    lowered = numpy.where(found < 0, found * penalty, found / penalty)
    numpy.put_along_axis(scores, seen, lowered.astype(numpy.float32), axis=1)
    return scores


def bias_of(mask: Array, new: int) -> Array:
    """What is added to the scores of the last `new` tokens: [B, T] to [B, 1, new, T]."""
    total = mask.shape[1]
    allowed = mask[:, None, None, :].astype(bool)
    if new > 1:
        places = numpy.arange(total)
        allowed = allowed & (places <= places[total - new :, None])
    return numpy.where(allowed, numpy.float32(0), _LOWEST)
