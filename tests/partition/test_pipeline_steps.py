"""The script of the folder of parts, with the network's own modules in the place of its graphs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from profiling.errors import Unsupported
from profiling.graphs.part_folder import VISION_ENCODER, joining_parts
from profiling.models.network_weights import generation_settings
from profiling.models.text_parts import Lengths
from profiling.partition.exporting import list_files, pipeline_recipe, with_digest
from profiling.partition.pipeline import Open, Pipeline, main
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, load, take_samples

LENGTH = 5
SIZES = Lengths(batch=2, new=3, past=2, encoded=4)


class ModulePart:
    """Runs a module as a runtime runs its graph: arrays by their names, and back."""

    def __init__(self, part: Any) -> None:
        self.part = part

    @property
    def inputs(self) -> dict[str, Any]:
        example = self.part.example(SIZES, torch.Generator())
        return {name: tuple(value.shape) for name, value in example.items()}

    @property
    def outputs(self) -> list[str]:
        return list(self.part.outputs)

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        given = [torch.from_numpy(numpy.ascontiguousarray(feeds[name])) for name in self.part.axes]
        with torch.inference_mode():
            made = self.part(*given)
        return [one.numpy() for one in (made if isinstance(made, tuple) else (made,))]


def parts_of(family: str) -> dict[str, nn.Module]:
    model = load(family, "optimization=fp32").model
    layout = model.family.layout
    vision = {VISION_ENCODER: layout.tower(model.network).eval()}
    return {**vision, **layout.text_parts(model.network), **joining_parts(model)}


def write_folder(family: str, folder: Path) -> None:
    """What the command writes, with a few bytes in the place of each graph."""
    model = load(family, "optimization=fp32").model
    parts = {}
    for name in parts_of(family):
        content = f"the graph of {name}".encode()
        (folder / f"{name}.onnx").write_bytes(content)
        told = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        parts[name] = {"file": f"{name}.onnx", "files": {f"{name}.onnx": told}}
    side = compose_point(f"model={family}").side
    (folder / "pipeline.json").write_text(json.dumps(pipeline_recipe(model, side)))
    tokenizer = model.family.processing.tokenizer
    (folder / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str())
    files = list_files(folder, ("pipeline.json", "tokenizer.json"))
    manifest = with_digest({"files": files, "parts": parts})
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_prompt_longer_than_the_learned_positions_is_refused(tmp_path: Path) -> None:
    write_folder("blip2_opt", tmp_path)
    recipe = json.loads((tmp_path / "pipeline.json").read_text())
    longest = recipe["prompt"]["longest"]
    assert longest == load("blip2_opt").family.config.text_config.max_position_embeddings
    pipeline = Pipeline(tmp_path, tmp_path, open_part=opener("blip2_opt"), threads=1)
    (picture,) = take_samples(1)[0].pictures
    with pytest.raises(SystemExit, match=f"tokens, and this model takes up to {longest}: ask a"):
        pipeline.answer([[picture]], ["what is that " * longest], length=1)
    # Padding takes no position.
    pipeline.check_length(numpy.tri(3, longest + 2, dtype=int))
    assert (
        json.loads(json.dumps(pipeline_recipe(load("llava").model, 112)))["prompt"]["longest"]
        is None
    )


def opener(family: str) -> Open:
    """Opens parts of a folder as the modules that their files are named after."""
    parts = parts_of(family)
    return lambda folder, told, threads: ModulePart(parts[Path(told["file"]).stem])


def answers_of(family: str, count: int, length: int = LENGTH) -> list[str]:
    engine, side = load(family, "optimization=fp32"), compose_point(f"model={family}").img_size
    batch = engine.prepare(take_samples(count), None)
    inputs = engine.place(engine.encode(batch, side))
    generated = engine.generate(inputs, length=length, exact=False, trace=None)
    return [row.answer for row in engine.describe(batch, inputs, generated)]


@pytest.mark.parametrize("family", slow_except(FAMILIES, "blip2_opt", "qwen25vl"))
def test_it_answers_as_the_model_does(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(family, tmp_path)
    pairs = [("--image", str(s.picture), "--text", s.request) for s in take_samples(2)]
    words = [word for pair in pairs for word in pair]
    told = tmp_path / "told.json"
    typed = ["x.py", *words, "--max-tokens", str(LENGTH), "--json", str(told)]
    monkeypatch.setattr(sys, "argv", typed)
    main(parts=tmp_path, folder=tmp_path, open_part=opener(family), about=None)
    assert capsys.readouterr().out.splitlines() == answers_of(family, 2)
    found = json.loads(told.read_text())
    assert [len(row) <= LENGTH for row in found["tokens"]] == [True, True]
    assert found["latency_s"] > 0 and found["load_s"] > 0


@pytest.mark.parametrize("family", slow_except(["blip2_opt", "blip2_t5", "qwen25vl"], "blip2_t5"))
def test_a_repetition_penalty_of_the_checkpoint_is_kept(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(family, "optimization=fp32").model
    plain = answers_of(family, 2, 9)
    settings = generation_settings(model.family, model.network)
    monkeypatch.setattr(settings, "repetition_penalty", 0.05)
    penalized = answers_of(family, 2, 9)
    assert penalized != plain
    pipeline, samples = make_pipeline(family, tmp_path), take_samples(2)
    rows = pipeline.answer([s.pictures for s in samples], [s.request for s in samples], length=9)
    assert [pipeline.decode(row) for row in rows] == penalized


def test_settings_that_the_script_does_not_know_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load("qwen25vl", "optimization=fp32").model
    monkeypatch.setattr(model.network.generation_config, "no_repeat_ngram_size", 2)
    with pytest.raises(Unsupported, match=r"generation_config\.json has no_repeat"):
        pipeline_recipe(model, 112)


def test_as_many_questions_as_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py", "--image", "a.png", "--text", "a", "--text", "b"])
    with pytest.raises(SystemExit, match="2 --text need as many --image, there are 1"):
        main(parts=tmp_path, folder=tmp_path, open_part=opener("fuyu"), about=None)


@pytest.mark.parametrize(
    ("option", "value", "least"), [("--max-tokens", "0", 1), ("--threads", "-1", 0)]
)
def test_numbers_that_cannot_be_are_one_line(
    option: str, value: str, least: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    typed = ["x.py", "--image", "a.png", "--text", "a", option, value]
    monkeypatch.setattr(sys, "argv", typed)
    with pytest.raises(SystemExit, match=f"^{option} {value}: allowed .* from {least}$"):
        main(parts=tmp_path, folder=tmp_path, open_part=opener("fuyu"), about=None)


@pytest.mark.parametrize("name", ["decoder.onnx", "pipeline.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("damage", "said"), [("missing", "is missing, and manifest"), ("changed", "its digest differs")]
)
def test_files_that_are_not_those_exported_are_refused(
    damage: str, said: str, name: str, tmp_path: Path
) -> None:
    write_folder("fuyu", tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(SystemExit, match=rf"{name}.*{said}"):
        open_pipeline("fuyu", tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a manifest"),
        (b"[]", "is not a manifest"),
        (b'{"parts": {}, "digest": "0"}', "is not as it was written: its digest differs"),
        (b'{"parts": {}}', "is not as it was written: its digest differs"),
    ],
)
def test_a_manifest_that_is_not_as_it_was_written_is_refused(
    content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(SystemExit, match=rf"manifest\.json {said}"):
        open_pipeline("fuyu", tmp_path)


def test_parts_of_other_weights_are_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_folder("fuyu", tmp_path / name)
        path = tmp_path / name / "manifest.json"
        told = {**json.loads(path.read_text()), "weights_digest": name}
        path.write_text(json.dumps(with_digest({k: v for k, v in told.items() if k != "digest"})))
    with pytest.raises(SystemExit, match=r"other/manifest\.json lists parts of other weights"):
        Pipeline(tmp_path / "other", tmp_path / "one", open_part=opener("fuyu"), threads=1)
    assert open_pipeline("fuyu", tmp_path / "one").parts


def open_pipeline(family: str, folder: Path) -> Pipeline:
    return Pipeline(folder, folder, open_part=opener(family), threads=1)


def make_pipeline(family: str, folder: Path) -> Pipeline:
    write_folder(family, folder)
    return open_pipeline(family, folder)


def test_several_pictures_have_their_places_in_one_prompt(tmp_path: Path) -> None:
    pipeline = make_pipeline("qwen25vl", tmp_path)
    (first, last) = (ids[0] for ids in pipeline.recipe["around_picture"])
    token = pipeline.recipe["prompt"]["image_token_id"]
    ids = pipeline.write_prompt("what is in both?", [(4, 2), (6, 3)])
    start = ids.index(first)
    expected = [first, *[token] * 4, last, first, *[token] * 6, last]
    assert ids[start : start + len(expected)] == expected
    assert ids.count(token) == 10


def test_a_second_picture_is_refused_where_the_prompt_has_one_place(tmp_path: Path) -> None:
    pipeline = make_pipeline("fuyu", tmp_path)
    with pytest.raises(SystemExit, match="one picture a question"):
        pipeline.write_prompt("what?", [(4, 2), (4, 2)])


def test_a_special_token_in_a_question_is_plain_text(tmp_path: Path) -> None:
    pipeline = make_pipeline("qwen25vl", tmp_path)
    token = pipeline.recipe["prompt"]["image_token_id"]
    special = max(pipeline.recipe["prompt"]["special_texts"], key=len)
    assert pipeline.write_prompt(f"is {special} here?", [(4, 2)]).count(token) == 4
