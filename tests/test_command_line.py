"""Wrong command lines and broken sample folders: status 2, one line, and nothing is measured."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from profiling.errors import ConfigError
from profiling.machine.machine import torch_has_cuda
from profiling.points.configuration import ROOT_KEYS
from profiling.points.help import list_examples
from profiling.points.overrides import check_overrides, explain
from profiling.runs.session import forget_checked, plan_point
from tests.composing import PROJECT, compose_config, compose_point, make_dataset, write_index
from tests.marking import slow_except

WRONG_CONFIGURATION = 2


@dataclass(frozen=True)
class Refusal:
    """What a command line came to."""

    status: object
    line: str


class NoWorker:
    """Stands where a point would be measured."""

    def __init__(self, **_: object) -> None:
        raise AssertionError("a worker was started")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, where neither a worker nor torch can be had."""
    torch_has_cuda()  # kept, so that the missing torch below is not what is remembered
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("profiling.runs.keeper.Worker", NoWorker)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Refusal:
    """Type a command line that has to be refused, in this process."""
    monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(PROJECT / "main.py"), run_name="__main__")
    GlobalHydra.instance().clear()
    return check_refusal(end.value.code, *capsys.readouterr())


def check_refusal(status: object, output: str, errors: str) -> Refusal:
    assert status == WRONG_CONFIGURATION, errors
    assert output == ""
    assert errors.endswith("\n") and errors.count("\n") == 1, errors
    return Refusal(status, errors.rstrip("\n"))


def list_records(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("results/*") if path.name != ".locks"]


# One of these is in every line: what could have been typed instead.
GUIDANCE = (
    "allowed",
    "auto, cpu",
    "at most one of them",
    "choose it with",
    "give it a value",
    "holds 120 samples",
    "no such folder",
)
# What is typed, and how the line that answers it begins; None: as it was typed.
LINES: list[tuple[str, str | None]] = [
    ("img_size=0", None),
    ("batch_size=${img_size}x", "batch_size=Nonex: "),
    ("seed=???", None),
    ("results_dir=${oc.env:NOT_SET_ANYWHERE}", None),
    ("x=1", None),
    ("-m seed=range(0,100000000)", "seed=range(0,100000000): "),
    ("-m seed=interval(1,3)", "seed=interval(1,3): "),
    ("-m model=glob(zzz*)", "model=glob(zzz*): "),
    ("optimization={bf16:1}", None),
    ("--info dry=true", "--info/-i=: "),
    ("+model=llava", None),
    ("-m img_size=glob(*)", "img_size=glob(*): "),
    ("+x=1", "x=1: "),
    ("=3", None),
    ("img_size=[1,2", None),
    ("--nope", "--nope=: "),
    ("-m --cfg job", "--cfg=job: "),
    ("model=llava -m img_size=112,224", "img_size=112,224: "),
    ("model=nope", None),
    ("model.nope=1", None),
    ("optimization=[fp16,bf16]", None),
    ("hydra.nope=1", None),
    ("weights=pretrained model.checkpoint=nope", "model.checkpoint=nope: "),
    ("-m prompt_len=1,2 batch_size=1,x num_samples=1", "batch_size=x: "),
    ("experiment=prompt_length prompt_len=16,1000", "prompt_len=1000: "),
]
# Others that are refused where one of those is.
SIMILAR: list[tuple[str, str | None]] = [
    ("num_samples=100000", None),
    ("seed=${nope}", None),
    ("-m seed=range(0,1000) img_size=range(112,312)", "img_size=range(112,312): "),
    ("-m seed=range(0,1,0.0000001)", "seed=range(0,1,0.0000001): "),
    ("-m seed=shuffle(range(0,100000000))", "seed=shuffle(range(0,100000000)): "),
    ("-m seed=range(3,1)", "seed=range(3,1): "),
    ("-m seed=range(1,3,0)", "seed=range(1,3,0): "),
    ("-m seed=range(0,inf)", "seed=range(0,inf): "),
    ("seed=range(0,3)", None),
    ("model={a:1}", None),
    ("--cfg nope", "--cfg/-c=: "),
    ("--experimental-rerun x", "--experimental-rerun=x: "),
    ("hydra/launcher=[a]", "hydra/launcher=a: "),
    ("~model", "model=null: "),
    ("img_size", None),
    ("img_size==3", None),
    ("-x", "-x=: "),
    ("--cfg job -m model=llava,fuyu -p model", "--cfg=job: "),
    ("--multirun --info plugins", "--info=plugins: "),
    ("--resolve", "--resolve=true: "),
    ("model=", None),
    ("dataset.name=coco", None),
    ("dataset.folder=/not/there", None),
    ("optimization=[bf16,nope]", "optimization=nope: "),
    ("hydra/launcher=nope", None),
    ("-m model=blip2_opt,nope", "model=nope: "),
    ("-m optimization=baseline,[fp16,bf16]", "optimization=[fp16,bf16]: "),
    ("experiment=image_size batch_size=0", "batch_size=0: "),
]
# Values and options that are checked once the command line has been read.
VALUES: list[tuple[str, str | None]] = [
    ("img_size=55", None),
    ("img_size=4097", None),
    ("img_size=1e9", "img_size=1000000000.0: "),
    ("img_size=112.0", None),
    ("img_size=abc", None),
    ("img_size=true", None),
    ("img_size=[112]", None),
    ("batch_size=2.0", None),
    ("batch_size=-1", None),
    ("batch_size=null", None),
    ("num_samples=0", None),
    ("prompt_len=0", None),
    ("prompt_len=513", None),
    ("seed=-1", None),
    ("seed=99999999999999999999999999", None),
    ("round=0", None),
    ("threads=0", None),
    ("threads=100000", None),
    ("device=tpu", None),
    ("device=cuda:99", None),
    ("preload=1", None),
    ("dry=maybe", None),
    ("batch_size=1000000000", None),
    ("max_new_tokens=1000000000000", None),
    ("max_new_tokens=4097", None),
    ("round=1000000000000", None),
    ("profiler.repeats=1000000000000", None),
    (
        "optimization=onnx_vision optimization.onnx_vision.parts=1000000000",
        "optimization.onnx_vision.parts=1000000000: ",
    ),
    ("model=画", None),
    ("model=[llava,fuyu]", None),
    ("model=../weights/tiny", "model.name=tiny: "),
    ("model.name=llava", None),
    ("model.dtype=int8", None),
    ("model.native_img_size=3", None),
    ("model.native_img_size.tiny=7", None),
    ("model.smallest_img_size=abc", None),
    ("weights=nope", None),
    ("dataset=nope", None),
    ("dataset.accuracy=nope", None),
    ("dataset.headline_reference=last", None),
    ("optimization=nope", None),
    ("optimization=[]", None),
    ("optimization=[baseline,fp32,fp16]", None),
    ("optimization.baseline.kind=other", None),
    ("profiler=nope", None),
    ("profiler.repeats=2.5", None),
    ("profiler.time_budget_s=inf", None),
    ("profiler.time_budget_s=nan", None),
    ("profiler.num_samples=-3", None),
    ("profiler.probes=null", None),
    ("profiler.probes.nope.x=1", None),
    ("profiler.probes.latency.minimum=abc", None),
    ("profiler.noise.max_load_per_core=-1", None),
    ("profiler.noise.board_sample_s=0", None),
    ("profiler.probes.memory.sample_interval_s=0", None),
    ("profiler.divergence.most_bytes=abc", None),
    ("profiler.divergence.most_bytes=-1", None),
    ("results_dir=null", None),
    ("experiment=nope", None),
    ("weights=pretrained model.checkpoint=null", "model.checkpoint=null: "),
    ("weights=pretrained model.checkpoint=/not/there", "model.checkpoint=/not/there: "),
    ("weights=pretrained model.revision=1234567", "model.revision=1234567: "),
    ("model.checkpoint=/not/there", None),
    ("model.checkpoint=owner/name weights=tiny", "model.checkpoint=owner/name: "),
    ("model.revision=main", None),
]


@pytest.mark.parametrize(
    ("typed", "begins"),
    [*LINES, *slow_except([*SIMILAR, *VALUES])],
    ids=[typed for typed, _ in (*LINES, *SIMILAR, *VALUES)],
)
def test_one_line_says_what_is_wrong(
    typed: str,
    begins: str | None,
    bench: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refusal = refuse(typed.split(), monkeypatch, capsys)
    check_line(refusal.line, typed, begins)
    assert list_records(bench) == []


def check_line(line: str, typed: str, begins: str | None) -> None:
    assert line.startswith(f"{typed}: " if begins is None else begins)
    assert any(guidance in line.partition(": ")[2] for guidance in GUIDANCE)


@pytest.mark.parametrize(("typed", "begins"), VALUES, ids=[typed for typed, _ in VALUES])
def test_one_line_says_which_value_is_wrong(
    typed: str, begins: str | None, bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of a run without Hydra's own, which take most of its time."""
    words = typed.split()
    monkeypatch.setattr(sys, "argv", ["main.py", *words])
    with pytest.raises((ConfigError, HydraException, OmegaConfBaseException)) as refused:
        check_overrides(words)
        plan_point(compose_config(*words))
    error = refused.value
    line = str(error) if isinstance(error, ConfigError) else explain(error)
    assert "\n" not in line
    check_line(line, typed, begins)
    assert list_records(bench) == []


def test_a_very_long_value_does_not_bury_the_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = refuse([f"img_size={'9' * 2000}"], monkeypatch, capsys)
    assert refusal.line.startswith("img_size=999") and refusal.line.count("9") < 200
    assert "allowed is a whole number" in refusal.line


@pytest.mark.parametrize(
    ("typed", "meant"),
    slow_except(
        [
            ("img_siz=112", "img_size"),
            ("prompt_length=16", "prompt_len"),
            ("optimisation=bf16", "optimization"),
            ("+batchsize=4", "batch_size"),
            ("profiler.repeat=4", "profiler.repeats"),
            ("+model.checkpoin=x", "model.checkpoint"),
        ],
        ("prompt_length=16", "prompt_len"),
        ("+model.checkpoin=x", "model.checkpoint"),
    ),
)
def test_an_unknown_key_suggests_the_nearest(
    typed: str,
    meant: str,
    bench: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refusal = refuse([typed], monkeypatch, capsys)
    assert refusal.line.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("typed", "with_it"),
    slow_except(
        [
            ("engine.url=http://localhost/v1", "engine=endpoint"),
            ("optimization.token_pruning.keep=0.5", "optimization=token_pruning"),
            ("tracker.experiment=x", "tracker=mlflow"),
        ],
        ("optimization.token_pruning.keep=0.5", "optimization=token_pruning"),
    ),
)
def test_a_key_of_another_option_names_it(
    typed: str,
    with_it: str,
    bench: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refusal = refuse([typed], monkeypatch, capsys)
    assert refusal.line == f"{typed}: allowed with {with_it}"


def test_a_key_like_no_other_suggests_nothing(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean" not in refuse(["zzz=1"], monkeypatch, capsys).line


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_explains_every_key(
    flag: str, bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "img_siz=1", flag])
    runpy.run_path(str(PROJECT / "main.py"), run_name="__main__")
    output, errors = capsys.readouterr()
    assert errors == "" and "== Config" not in output
    for key in (*ROOT_KEYS, "experiment"):
        assert f"\n  {key} " in output
    assert max(map(len, output.splitlines())) <= 100
    assert output.count("  python main.py ") == 2 + len(list_examples())


@pytest.mark.parametrize("example", list_examples())
def test_an_example_of_the_help_is_right(example: str, bench: Path) -> None:
    arguments = example.removeprefix("python main.py ").split()
    check_overrides(arguments)
    for override in arguments:
        if override != "-m":
            compose_point(override.split(",")[0])


PRINTING = "from profiling.arguments import print_anything; print_anything(); print('\u00fc')"


def test_a_terminal_that_lacks_a_character_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTING],
        cwd=PROJECT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("\\xfc\n", "")


@pytest.mark.parametrize(
    "typed", ["img_size=%s", "profiler.repeats=%s", "-m seed=%s,1", "seed=_%s"]
)
def test_a_number_longer_than_python_reads_is_refused(
    typed: str, bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = refuse((typed % ("9" * 5000)).split(), monkeypatch, capsys)
    assert refusal.line.startswith(f"{typed.split()[-1].partition('=')[0]}=")
    assert refusal.line.endswith("allowed is a whole number of up to 1000 digits")
    assert len(refusal.line) < 400


def test_a_very_long_key_does_not_bury_the_line(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = refuse([f"{'k' * 10_000}=1"], monkeypatch, capsys)
    assert refusal.line.startswith("kkkk") and refusal.line.count("k") < 200
    assert "unknown key; allowed are model, " in refusal.line


def test_a_value_of_several_lines_is_answered_in_one(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = refuse(["dataset.folder='a\nb\x1b[31m'"], monkeypatch, capsys)
    assert refusal.line.startswith("dataset.folder=")
    assert refusal.line.isprintable()


@pytest.mark.parametrize("name", ["results", "results/deeper"])
def test_results_dir_is_a_file(
    name: str, bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench / "results").write_text("a file", encoding="utf-8")
    refusal = refuse([f"results_dir={name}", "num_samples=1"], monkeypatch, capsys)
    assert refusal.line.startswith(f"results_dir={name}: cannot be made a folder")
    assert (bench / "results").read_text(encoding="utf-8") == "a file"


def test_one_wrong_point_among_twenty_good_ones(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ",".join(str(side) for side in [*range(112, 132), 4097])
    refusal = refuse(["-m", f"img_size={sides}", "num_samples=1"], monkeypatch, capsys)
    assert refusal.line.startswith("img_size=4097: allowed is a whole number from 56 to 4096")
    assert list_records(bench) == []


# In a process of its own, as a person types it


@pytest.fixture
def tripwire(tmp_path: Path) -> Path:
    """A folder whose torch leaves a mark when it is imported."""
    package = tmp_path / "tripwire" / "torch"
    package.mkdir(parents=True)
    mark = f"open({str(tmp_path / 'torch_was_imported')!r}, 'w')\n"
    (package / "__init__.py").write_text(mark, encoding="utf-8")
    (package / "version.py").write_text("cuda: str | None = None\n", encoding="utf-8")
    return package.parent


@pytest.mark.parametrize(
    ("typed", "begins"),
    [
        ("-m img_size=112,0 num_samples=1", "img_size=0: "),
        *slow_except(
            [
                ("img_size=0", "img_size=0: "),
                ("model=nope", "model=nope: "),
                ("+x=1", "x=1: "),
                ("optimization=[fp16,bf16]", "optimization=[fp16,bf16]: "),
                ("dataset.folder=/not/there", "dataset.folder=/not/there: "),
                ("experiment=batch_size device=tpu", "device=tpu: "),
            ]
        ),
    ],
)
def test_as_a_person_types_it(typed: str, begins: str, tmp_path: Path, tripwire: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "main.py"), *typed.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tripwire)},
        capture_output=True,
        text=True,
    )
    refusal = check_refusal(done.returncode, done.stdout, done.stderr)
    assert refusal.line.startswith(begins)
    assert list_records(tmp_path) == []
    assert not (tmp_path / "torch_was_imported").exists()


# Sample folders


def refuse_folder(folder: Path, results: Path) -> str:
    config = compose_config("num_samples=null")
    config["dataset"]["folder"] = str(folder)
    config["results_dir"] = str(results)
    with pytest.raises(ConfigError) as refused:
        plan_point(config)
    line = str(refused.value)
    assert line.startswith(f"dataset.folder={folder}: ") and line.isprintable()
    return line.removeprefix(f"dataset.folder={folder}: ")


INDEXES = {
    "broken JSON": '[{"image_path": ',
    "an object": "{}",
    "an empty list": "[]",
    "a number": "3",
    "nothing": "",
    "not text": b"\xff\xfe\x00[",
    "nested without end": "[" * 100_000,
    "a list of numbers": "[1, 2]",
    "null": "null",
}


@pytest.mark.parametrize("content", INDEXES.values(), ids=INDEXES)
def test_broken_index(content: str | bytes, tmp_path: Path) -> None:
    make_dataset(tmp_path / "mine")
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "mine" / "samples.json").write_bytes(data)
    assert "samples.json" in refuse_folder(tmp_path / "mine", tmp_path / "results")
    assert list_records(tmp_path) == []


def test_no_folder_no_index_and_an_index_that_is_a_folder(tmp_path: Path) -> None:
    folder, results = tmp_path / "mine", tmp_path / "results"
    assert "there is no such folder" in refuse_folder(folder, results)
    folder.write_text("a file", encoding="utf-8")
    assert "there is no such folder" in refuse_folder(folder, results)
    folder.unlink()
    folder.mkdir()
    assert "there is no samples.json in it" in refuse_folder(folder, results)
    (folder / "samples.json").mkdir()
    assert "samples.json cannot be read" in refuse_folder(folder, results)


ENTRIES: dict[str, tuple[str, object]] = {
    "request empty": ("request", ""),
    "request blank": ("request", " \n\t"),
    "request missing": ("request", None),
    "request a list": ("request", ["what?"]),
    "request half a character": ("request", "what \ud800?"),
    "response a number": ("response", 3),
    "response null": ("response", None),
    "response an empty list": ("response", []),
    "response a list of numbers": ("response", [1, 2]),
    "response an object": ("response", {"text": "a"}),
    "response half a character": ("response", ["a\udc00"]),
    "picture missing": ("image_path", "pictures/9.png"),
    "picture a folder": ("image_path", "pictures"),
    "picture not named": ("image_path", None),
    "picture named by nothing": ("image_path", ""),
    "picture a number": ("image_path", 7),
    "picture by an absolute path": ("image_path", "/etc/hostname"),
    "picture outside by dots": ("image_path", "../outside.png"),
    "picture outside by a link": ("image_path", "pictures/link.png"),
    "picture outside by a linked folder": ("image_path", "elsewhere/outside.png"),
    "picture by a link to itself": ("image_path", "pictures/loop.png"),
    "picture with a name too long": ("image_path", "a" * 5000),
    "picture with a zero in its name": ("image_path", "a\0.png"),
    "picture with half a character in its name": ("image_path", "\ud800.png"),
    "picture with a line break in its name": ("image_path", "a\nb.png"),
}


@pytest.mark.parametrize(("key", "value"), ENTRIES.values(), ids=ENTRIES)
def test_broken_sample(key: str, value: object, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    entries = make_dataset(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (folder / "pictures" / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "pictures" / "loop.png").symlink_to("loop.png")
    (folder / "elsewhere").symlink_to(tmp_path)
    entries[1][key] = value
    write_index(folder, entries)
    line = refuse_folder(folder, tmp_path / "results")
    assert line.startswith("samples.json, sample 1: ")
    assert list_records(tmp_path) == []


def test_an_id_given_twice(tmp_path: Path) -> None:
    entries = make_dataset(tmp_path / "mine")
    entries[2]["id"] = "1"
    write_index(tmp_path / "mine", entries)
    line = refuse_folder(tmp_path / "mine", tmp_path / "results")
    assert line == "samples.json, sample 1: another sample has the same id"


def _jpeg(path: Path) -> bytes:
    Image.effect_noise((64, 64), 50).convert("RGB").save(path.with_suffix(".jpg"))
    return path.with_suffix(".jpg").read_bytes()


def test_broken_pictures_are_found_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    make_dataset(folder)
    picture = folder / "pictures" / "2.png"
    whole = picture.read_bytes()
    jpeg = _jpeg(tmp_path / "noise")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (
        b"",
        b"this is text, whatever its name says",
        whole[: len(whole) - 20],
        whole[:40],
        whole[:8],
        bytes(flipped),
        jpeg[: len(jpeg) // 2],
        jpeg[:100],
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
    ):
        picture.write_bytes(content)
        forget_checked()
        line = refuse_folder(folder, tmp_path / "results")
        assert line.startswith(f"samples.json, sample 2: {picture}: ")
    assert list_records(tmp_path) == []


def test_a_right_folder_is_taken(tmp_path: Path) -> None:
    """Otherwise every refusal above would prove nothing."""
    make_dataset(tmp_path / "mine")
    config = compose_config()
    config["dataset"]["folder"] = str(tmp_path / "mine")
    config["results_dir"] = str(tmp_path / "results")
    assert plan_point(config).point.num_samples == 3


# Checkpoint folders


def refuse_checkpoint(folder: Path, results: Path) -> str:
    config = compose_config("weights=pretrained", "num_samples=1")
    config["model"]["checkpoint"] = str(folder)
    config["results_dir"] = str(results)
    with pytest.raises(ConfigError) as refused:
        plan_point(config)
    prefix = f"model.checkpoint={folder}: "
    assert str(refused.value).startswith(prefix)
    return str(refused.value).removeprefix(prefix)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of a small checkpoint by links, so that single files can be broken."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in (PROJECT / "checkpoints" / "tiny" / "qwen25vl").iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def _replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def test_a_whole_checkpoint_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    config = compose_config("weights=pretrained", "num_samples=1")
    config["model"]["checkpoint"] = str(checkpoint)
    config["results_dir"] = str(tmp_path / "results")
    assert plan_point(config).point.weights == "pretrained"


def test_a_checkpoint_of_another_family(tmp_path: Path) -> None:
    llava = PROJECT / "checkpoints" / "tiny" / "llava"
    line = refuse_checkpoint(llava, tmp_path / "results")
    assert line == "config.json has model_type llava; qwen25vl is qwen2_5_vl"


BROKEN_WEIGHTS = {
    "empty": b"",
    "torn": None,
    "not safetensors": b"a text of more than eight bytes",
    "a header without end": b"\xff" * 64,
    "a header that is a list": b"\x02" + b"\0" * 7 + b"[]",
}


@pytest.mark.parametrize("content", BROKEN_WEIGHTS.values(), ids=BROKEN_WEIGHTS)
def test_broken_weights(content: bytes | None, checkpoint: Path, tmp_path: Path) -> None:
    path = checkpoint / "model.safetensors"
    _replace(path, path.read_bytes()[:-1] if content is None else content)
    assert refuse_checkpoint(checkpoint, tmp_path / "results").startswith("model.safetensors ")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(name: str, checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.glob("tokenizer*" if name == "tokenizer.json" else name):
        path.unlink()
    assert refuse_checkpoint(checkpoint, tmp_path / "results") == f"there is no {name} in it"


def test_a_missing_shard(checkpoint: Path, tmp_path: Path) -> None:
    shards = '{"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    _replace(checkpoint / "model.safetensors.index.json", shards.encode())
    line = refuse_checkpoint(checkpoint, tmp_path / "results")
    assert line == "there is no model-00002-of-00002.safetensors in it"


def test_a_config_that_is_no_json(checkpoint: Path, tmp_path: Path) -> None:
    _replace(checkpoint / "config.json", b"{")
    assert "config.json cannot be read" in refuse_checkpoint(checkpoint, tmp_path / "results")
    _replace(checkpoint / "config.json", b"[]")
    assert refuse_checkpoint(checkpoint, tmp_path / "results") == "config.json is not an object"
