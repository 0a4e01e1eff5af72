"""Samples of public sets, taken from local copies that have the hub's own columns and types."""

from __future__ import annotations

import errno
import io
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from profiling import fetch
from profiling.arguments import WRONG_CONFIGURATION
from profiling.errors import ConfigError
from profiling.fetch import FAILED, FetchError, Request, read_request
from profiling.samples.samples import digest_samples, load_samples
from tests.composing import compose_point

datasets = pytest.importorskip("datasets", reason="requirements-data.txt is not installed")

ROWS = 230
ROTATED = 6
ORIENTATION = 0x0112


def paint(number: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (24, 16), (number % 256, 80, 160))
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    picture.save(buffer, kind, **({"exif": exif} if kind == "JPEG" else {}))
    return buffer.getvalue()


def cell(number: int, kind: str = "PNG") -> dict[str, Any]:
    return {"bytes": paint(number, kind), "path": None}


def textvqa_row(number: int) -> dict[str, Any]:
    return {
        "image_id": f"img{number}",
        "question_id": 34602 + number,
        "question": f"what is brand number {number}?",
        "question_tokens": ["what", "is"],
        "image": cell(number, "JPEG"),
        "image_width": 24,
        "image_height": 16,
        "flickr_original_url": "https://example.org/o.jpg",
        "flickr_300k_url": "https://example.org/z.jpg",
        "answers": [f"brand {number}"] * 7 + ["unanswerable", "", "nous les gosses"],
        "image_classes": ["Camera"],
        "set_name": "val",
        "ocr_tokens": [],
    }


def coco_row(number: int) -> dict[str, Any]:
    return {
        "question_id": f"{number:012}.jpg",
        "image": cell(number, "JPEG"),
        "question": "Please carefully observe the image and come up with a caption for the image",
        "answer": [f"caption {one} of {number}" for one in range(5)],
        "id": 38,
        "license": 3,
        "file_name": "COCO_val2014_000000203564.jpg",
        "coco_url": "https://example.org/c.jpg",
        "height": 16,
        "width": 24,
        "date_captured": "2013-11-14 17:02:52",
    }


def scienceqa_row(number: int) -> dict[str, Any]:
    return {
        "image": cell(number) if number % 2 else None,
        "question": f"which is number {number}?",
        "choices": ["ocean", "lake", "river"],
        "answer": number % 3,
        "hint": "look at the map" if number % 3 else "",
        "task": "closed choice",
        "grade": "grade2",
        "subject": "natural science",
        "topic": "geography",
        "category": "Maps",
        "skill": "read a map",
        "lecture": "",
        "solution": "",
    }


def describe(kinds: str) -> dict[str, Any]:
    """Columns as `name type` pairs, in the words of a dataset card."""
    named = {"image": datasets.Image(), "list": datasets.List(datasets.Value("string"))}
    pairs = [pair.split(":") for pair in kinds.split()]
    return {name: named.get(kind) or datasets.Value(kind) for name, kind in pairs}


SETS: dict[str, tuple[Callable[[int], dict[str, Any]], str, str]] = {
    "textvqa": (
        textvqa_row,
        "validation",
        "image_id:string question_id:int32 question:string question_tokens:list image:image"
        " image_width:int32 image_height:int32 flickr_original_url:string flickr_300k_url:string"
        " answers:list image_classes:list set_name:string ocr_tokens:list",
    ),
    "coco": (
        coco_row,
        "val",
        "question_id:string image:image question:string answer:list id:int64 license:int64"
        " file_name:string coco_url:string height:int64 width:int64 date_captured:string",
    ),
    "scienceqa": (
        scienceqa_row,
        "test",
        "image:image question:string choices:list answer:int8 hint:string task:string grade:string"
        " subject:string topic:string category:string skill:string lecture:string solution:string",
    ),
}


def write_copy(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """A clone of the hub's repository: a card and the split in two parquet files."""
    _, split, kinds = SETS[name]
    features = datasets.Features(describe(kinds))
    middle = len(rows) // 2
    (folder / "data").mkdir(parents=True)
    for number, part in enumerate((rows[:middle], rows[middle:])):
        columns = {key: [row[key] for row in part] for key in features}
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(folder / f"data/{split}-{number:05}-of-00002.parquet", batch_size=20)
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: {split}\n"
    card += f"    path: data/{split}-*\n---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    return {
        name: write_copy(root / name, name, [row(number) for number in range(ROWS)])
        for name, (row, _, _) in SETS.items()
    }


def ask(name: str, source: Path, output: Path, *more: str) -> Request:
    given = ("num_samples=12", *more)
    return read_request([f"dataset={name}", f"source={source}", f"output={output}", *given])


def read(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "samples.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SETS)
def test_what_is_fetched_is_what_a_point_reads(
    name: str, copies: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / name
    said = fetch.fetch(ask(name, copies[name], output), ["the command"])
    assert f"dataset={name} dataset.folder={output}" in said
    point = compose_point(f"dataset={name}", f"dataset.folder={output}")
    samples = load_samples(Path(point.dataset_folder), count=12, at_most=None)
    stored = json.loads((output / "source.json").read_text(encoding="utf-8"))
    assert stored["ids"] == [sample.id for sample in samples]
    assert stored["samples_digest"] == digest_samples(samples)
    assert stored["command"] == ["the command"]
    assert stored["request"]["source"] == str(copies[name])
    assert len(list((output / "pictures").iterdir())) == 12
    assert not output.with_name(f"{name}.part").exists()


def test_references_and_pictures_are_as_they_were_uploaded(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    fetch.fetch(ask("textvqa", copies["textvqa"], tmp_path / "one"), [])
    for sample in load_samples(tmp_path / "one", count=12, at_most=None):
        row = textvqa_row(int(sample.id) - 34602)
        assert sample.request == row["question"]
        assert list(sample.references) == row["answers"]
        assert sample.picture.suffix == ".jpg"
        assert sample.picture.read_bytes() == row["image"]["bytes"]
        with Image.open(sample.picture) as picture:
            assert picture.getexif()[ORIENTATION] == ROTATED


def test_a_caption_has_all_its_references_and_one_wording(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    fetch.fetch(ask("coco", copies["coco"], tmp_path / "one"), [])
    for entry in read(tmp_path / "one"):
        number = int(entry["id"].removesuffix(".jpg"))
        assert entry["response"] == coco_row(number)["answer"]
        assert entry["request"] == "describe the image in one sentence"


def test_a_wording_may_look_like_a_number_and_a_torn_state_is_begun_anew(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    partial = tmp_path / "one.part"
    partial.mkdir()
    (partial / "progress.json").write_text("[]", encoding="utf-8")
    fetch.fetch(ask("coco", copies["coco"], tmp_path / "one", "wording=2026"), [])
    assert {entry["request"] for entry in read(tmp_path / "one")} == {"2026"}


def test_a_choice_is_its_number_and_only_rows_with_a_picture_count(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    fetch.fetch(ask("scienceqa", copies["scienceqa"], tmp_path / "one"), [])
    for entry in read(tmp_path / "one"):
        number = int(entry["id"])
        assert number % 2 == 1
        context = "context: look at the map\n" if number % 3 else ""
        question = f"which is number {number}?\nchoices: (0) ocean (1) lake (2) river"
        assert entry["request"] == context + question
        assert entry["response"] == str(number % 3)


def test_the_order_of_the_rows_chooses_nothing(tmp_path: Path) -> None:
    rows = [textvqa_row(number) for number in range(60)]
    shuffled = random.Random(3).sample(rows, len(rows))
    found = []
    for name, order in (("in_order", rows), ("shuffled", shuffled)):
        copy = write_copy(tmp_path / name, "textvqa", order)
        fetch.fetch(ask("textvqa", copy, tmp_path / f"{name}_out"), [])
        found.append(load_samples(tmp_path / f"{name}_out", count=12, at_most=None))
    assert digest_samples(found[0]) == digest_samples(found[1])


def ids(folder: Path) -> list[str]:
    return [entry["id"] for entry in read(folder)]


def test_a_seed_is_a_draw_and_fewer_samples_are_the_first_of_more(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    for name, more in (("twelve", ()), ("five", ("num_samples=5",)), ("other", ("seed=1",))):
        fetch.fetch(ask("coco", copies["coco"], tmp_path / name, *more), [])
    assert ids(tmp_path / "five") == ids(tmp_path / "twelve")[:5]
    assert set(ids(tmp_path / "other")) != set(ids(tmp_path / "twelve"))


def test_a_pool_is_the_first_rows_and_no_more_are_read(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    fetch.fetch(ask("coco", copies["coco"], tmp_path / "one", "pool=20"), [])
    assert max(int(name.removesuffix(".jpg")) for name in ids(tmp_path / "one")) < 20
    assert json.loads((tmp_path / "one/source.json").read_text())["rows_read"] == 20


class Torn(Exception):
    """Stands for a connection that breaks."""


@pytest.fixture(scope="module")
def whole(copies: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of what is fetched when nothing breaks."""
    output = tmp_path_factory.mktemp("whole") / "out"
    fetch.fetch(ask("textvqa", copies["textvqa"], output), [])
    return digest_samples(load_samples(output, count=12, at_most=None))


@pytest.mark.parametrize("breaks_at", [3, 100, 229])
def test_a_torn_download_goes_on(
    breaks_at: int,
    whole: str,
    copies: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request, take, read_rows = ask("textvqa", copies["textvqa"], tmp_path / "torn"), fetch._take, []

    def tear(request: Request, partial: Path, progress: fetch.FetchState, row: Any) -> None:
        if progress.rows_read == breaks_at and len(read_rows) <= breaks_at:
            read_rows.append(row)
            raise Torn
        read_rows.append(row["question_id"])
        take(request, partial, progress, row)

    monkeypatch.setattr(fetch, "_take", tear)
    with pytest.raises(Torn):
        fetch.fetch(request, [])
    assert not (tmp_path / "torn").exists()
    fetch.fetch(request, [])
    torn = load_samples(tmp_path / "torn", count=12, at_most=None)
    assert digest_samples(torn) == whole
    # Rows before the last save are not read a second time.
    assert len(read_rows) == ROWS + 1 + breaks_at % 100


def test_a_finished_folder_is_kept_and_another_s_never_touched(
    copies: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "one"
    request = ask("coco", copies["coco"], output)
    fetch.fetch(request, [])
    before = (output / "samples.json").stat().st_mtime_ns
    assert "already there" in fetch.fetch(request, [])
    assert (output / "samples.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds another seed"):
        fetch.fetch(ask("coco", copies["coco"], output, "seed=7"), [])
    next((output / "pictures").iterdir()).write_bytes(paint(250))
    with pytest.raises(ConfigError, match="was changed since"):
        fetch.fetch(request, [])
    mine = tmp_path / "mine"
    mine.mkdir()
    for content in (None, "[]", "{}", '{"request": 3, "samples_digest": ""}'):
        if content is not None:
            (mine / "source.json").write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match="not made by a fetch"):
            fetch.fetch(ask("coco", copies["coco"], mine), [])


def test_a_broken_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [coco_row(number) for number in range(15)]
    rows[4]["image"] = {"bytes": paint(1)[:-30], "path": None}
    copy = write_copy(tmp_path / "copy", "coco", rows)
    fetch.fetch(ask("coco", copy, tmp_path / "one", "num_samples=14"), [])
    stored = json.loads((tmp_path / "one/source.json").read_text())
    assert stored["left_out"] == {"a broken picture": 1}
    with pytest.raises(ConfigError, match="14 can be used, 1 have a broken picture"):
        fetch.fetch(ask("coco", copy, tmp_path / "two", "num_samples=15"), [])


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    copy = write_copy(tmp_path / "copy", "coco", [coco_row(1), coco_row(2), coco_row(1)])
    with pytest.raises(ConfigError, match="two rows are called"):
        fetch.fetch(ask("coco", copy, tmp_path / "one", "num_samples=3"), [])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fetch", *arguments])
    with pytest.raises(SystemExit) as caught:
        fetch.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


WRONG = {
    "no set": (["dataset=imagenet"], "dataset=imagenet: allowed is one of coco"),
    "nothing": ([], "dataset=None: allowed is one of"),
    "no value": (["dataset"], "allowed is key=value"),
    "unknown key": (["dataset=coco", "samples=3"], "samples=3: unknown key; allowed are dataset"),
    "no samples": (["dataset=coco", "num_samples=0"], "num_samples=0: allowed is a whole"),
    "words": (["dataset=coco", "num_samples=many"], "num_samples=many: allowed is a whole"),
    "seed below": (["dataset=coco", "seed=-1"], "seed=-1: allowed is a whole number from 0"),
    "small pool": (["dataset=coco", "pool=5"], "pool=5: allowed is a whole number from 300"),
    "a branch": (["dataset=coco", "revision=main"], "revision=main: allowed is a commit"),
    "no folder": (["dataset=coco", "source=/no/where"], "source=/no/where: there is no such"),
    "no question": (["dataset=coco", "wording=null"], "question=null: allowed is to give either"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_was_typed_wrongly_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = WRONG[name]
    assert run(monkeypatch, *arguments) == WRONG_CONFIGURATION
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


def test_numbers_and_paths_that_are_too_long_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("num_samples", "seed", "dataset", "source"):
        given = {"dataset": "coco", "output": str(tmp_path / "out"), key: "9" * 5000}
        arguments = [f"{name}={value}" for name, value in given.items()]
        assert run(monkeypatch, *arguments) == WRONG_CONFIGURATION
        said = capsys.readouterr().err
        assert said.startswith(f"{key}=999") and said.count("\n") == 1 and len(said) < 400
    assert run(monkeypatch, "dataset=coco", f"output={'d' * 5000}") == FAILED
    assert "File name too long" in capsys.readouterr().err


def test_help_says_what_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fetch", "--help"])
    fetch.main()
    said = capsys.readouterr().out
    assert "\n  num_samples (here: 300)\n" in said and "coco, scienceqa, textvqa" in said


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("picture=photo", "picture=photo: "),
        ("split=nightly", "split=nightly: "),
        ("num_samples=999", f"num_samples=999: of {ROWS} rows read, {ROWS} can be used"),
    ],
)
def test_what_the_copy_has_not_is_named(
    typed: str,
    expected: str,
    copies: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["dataset=coco", f"source={copies['coco']}", f"output={tmp_path / 'out'}"]
    assert run(monkeypatch, *arguments, "num_samples=3", typed) == WRONG_CONFIGURATION
    assert capsys.readouterr().err.splitlines()[-1].startswith(expected)


def test_a_copy_with_a_torn_file_is_named(
    copies: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(copies["coco"], copy)
    shard = copy / "data/val-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-200])
    arguments = ["dataset=coco", f"source={copy}", f"output={tmp_path / 'out'}"]
    assert run(monkeypatch, *arguments) == FAILED
    assert f"{copy}: damaged: " in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exception], None]]:
    def set_up(problem: Exception) -> None:
        def load(*_: object, **__: object) -> None:
            raise problem

        monkeypatch.setattr(datasets, "load_dataset", load)

    yield set_up


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (ConnectionError("Couldn't reach the hub"), "the hub cannot be reached"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "Permission denied"),
    ],
)
def test_what_failed_on_the_way_is_one_line(
    problem: Exception,
    expected: str,
    raising: Callable[[Exception], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(problem)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert run(monkeypatch, "dataset=coco", f"output={tmp_path / 'out'}") == FAILED
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "find_spec", lambda _: None)
    with pytest.raises(FetchError, match=r"pip install -r requirements-data\.txt"):
        fetch._import_datasets()


def test_a_second_fetch_of_the_same_folder_is_kept_out(tmp_path: Path) -> None:
    with (
        fetch.reserved(tmp_path / "out"),
        pytest.raises(FetchError, match="another fetch"),
        fetch.reserved(tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_pinned_and_complete(name: str) -> None:
    request = read_request([f"dataset={name}"])
    assert request.revision is not None and len(request.revision) == 40
    assert request.source is None
    columns = set(request.columns.values())
    assert columns <= set(describe(SETS[name][2]))
    assert request.split == SETS[name][1]
    assert request.output == Path(f"fetched/{name}_300_seed0")


def test_fetch_knows_the_sets_that_a_point_knows() -> None:
    conf = fetch.CONF.parent
    names = {path.stem for path in (conf / "dataset").glob("*.yaml")}
    assert {path.stem for path in fetch.CONF.glob("*.yaml")} == names == set(SETS)
