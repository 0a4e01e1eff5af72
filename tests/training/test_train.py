"""Training: the loss falls, a stop changes nothing, a checkpoint loads as public ones do."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from random import Random

import pytest
import torch

from profiling.errors import ConfigError
from profiling.models.weights import CHECKPOINTS
from tests.marking import slow_except
from training.checkpoint import write_checkpoint
from training.evaluate import evaluate, load_network, load_reader, score
from training.families import FAMILIES, find_family
from training.plan import Plan, read_plan
from training.scenes import draw_sign
from training.train import Training

SMALL = {
    "steps": 40,
    "look_steps": 1,
    "look_every": 1000,
    "batch_size": 2,
    "look_batch_size": 1,
    "warmup_steps": 4,
    "other_sizes_from_share": 0.0,
    "long_from_share": 2.0,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _start(name: str, **changes) -> Training:
    plan: Plan = read_plan(name, SMALL | changes)
    return Training(family=find_family(name), plan=plan, seed=0)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "state.pt"
    _start("llava").save(path)
    return path


def _go(training: Training, steps: int) -> None:
    for _ in range(steps):
        training.advance()


def _same(one: Training, other: Training) -> bool:
    pairs = zip(one.parameters, other.parameters, strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", slow_except(FAMILIES, "qwen25vl"))
def test_a_stop_in_between_changes_no_bit(name, tmp_path):
    whole = _start(name)
    _go(whole, 3)
    first = _start(name)
    _go(first, 2)
    first.save(tmp_path / "state.pt")
    second = _start(name)
    second.load(tmp_path / "state.pt")
    assert not _same(first, whole)
    _go(second, 1)
    assert _same(second, whole)


@pytest.mark.parametrize(
    ("name", "other"), [("seed", {"seed": 1}), ("steps", {"steps": 41}), ("look_every", {})]
)
def test_a_state_of_another_training_is_refused(name, other, state):
    plan = read_plan("llava", SMALL | {k: v for k, v in other.items() if k != "seed"})
    if not other:
        plan = replace(plan, look_every=7)
    begun = Training(family=find_family("llava"), plan=plan, seed=other.get("seed", 0))
    with pytest.raises(ConfigError, match=f"--state=.*was started with {name} "):
        begun.load(state)


def test_a_broken_state_is_refused_by_name(state, tmp_path):
    path, training = tmp_path / "state.pt", _start("llava")
    for kept in (0, 1, 500, -1):
        path.write_bytes(state.read_bytes()[:kept])
        with pytest.raises(ConfigError, match=f"--state={re.escape(str(path))}: cannot be read"):
            training.load(path)


def test_a_file_of_something_else_is_no_state(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "state.pt")
    with pytest.raises(ConfigError, match="is not a training state"):
        _start("llava").load(tmp_path / "state.pt")


WRONG = {
    "draw": ["--seed", "7", "--count", "0", "--output", "{}/new"],
    "draw ": ["--seed", "7", "--count", "1", "--output", "{}"],
    "evaluate": ["{}", "--model", "llava"],
    "evaluate ": [str(CHECKPOINTS / "tiny" / "fuyu"), "--model", "llava"],
    "card": ["{}", "--model", "llava", "--state", "{}"],
    "card ": [str(CHECKPOINTS / "tiny" / "llava"), "--model", "llava", "--state", "{}"],
    "train": ["--model", "llava", "--state", "{}/s", "--output", "{}/o", "--start-from", "{}"],
    "train ": ["--model", "llava", "--state", "{}/s", "--output", "{}/o", "--steps", "none"],
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_arguments_are_refused_in_one_line(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "samples.json").write_text("[]")
    name = f"training.{command.strip()}"
    typed = [argument.format(tmp_path) for argument in WRONG[command]]
    monkeypatch.setattr("sys.argv", [name, *typed])
    with pytest.raises(SystemExit) as refusal:
        import_module(name).main()
    out, errors = capsys.readouterr()
    assert (refusal.value.code, out, errors.count("\n")) == (2, "", 1), errors
    assert "model.checkpoint" not in errors, "a key that no command here has"
    assert not (tmp_path / "o").exists() and (tmp_path / "coco/samples.json").read_text() == "[]"


def test_few_signs_need_no_unseen_word():
    scenes = [scene for scene in map(_sign, range(40)) if scene.answer.isdecimal()]
    assert "sign_wer_unseen_words" not in score("sign", scenes, ["?"] * len(scenes))


def _sign(seed: int):
    return draw_sign(Random(seed), held_out=True)


@pytest.mark.slow
def test_loss_falls():
    training = _start("qwen25vl", look_steps=0, batch_size=8)
    seen = [training.advance() for _ in range(21)]
    losses = [step["loss"] for step in seen[1:]]  # the very first one only looks
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_learning_rate_rises_and_falls_to_nothing():
    plan = read_plan("llava", SMALL)
    rates = [plan.rate_at(step) for step in range(plan.steps)]
    assert rates[0] < max(rates) == plan.learning_rate
    assert 0 < rates[-1] < 0.2 * plan.learning_rate


@pytest.mark.parametrize("name", slow_except(FAMILIES, "llava"))
def test_checkpoint_is_half_precision_that_loads_as_float32(name, tmp_path):
    training = _start(name)
    write_checkpoint(tmp_path, training.family, training.network)
    network = load_network(tmp_path, "auto")
    assert network.dtype == torch.float32
    for key, value in training.network.state_dict().items():
        assert torch.equal(network.state_dict()[key], value.half().float())
    assert (tmp_path / "model.safetensors").stat().st_size <= 8e6


def test_evaluation_of_an_untrained_model_is_near_chance(tmp_path):
    training = _start("llava")
    write_checkpoint(tmp_path, training.family, training.network)
    results = evaluate(load_reader(tmp_path, "llava"), seed=1, count=6, side=112, filler=0)
    assert results["sign_wer"] >= 0.9 and results["caption_wer"] >= 0.9


def test_score_of_right_and_wrong_answers():
    scenes = [draw_sign(Random(i), held_out=True) for i in range(20)]
    right = score("sign", scenes, [scene.answer.lower() for scene in scenes])
    assert right["sign_wer"] == 0 and right["sign_exact"] < 0.5
    wrong = score("sign", scenes, ["?" for _ in scenes])
    assert wrong["sign_wer"] == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_shipped_checkpoints_are_small_and_complete(name):
    folder = Path(__file__).parents[2] / "checkpoints" / "tiny" / name
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors"} <= names
    assert {"preprocessor_config.json", "processor_config.json", "tokenizer.json"} <= names
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
