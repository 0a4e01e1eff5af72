"""Downloads samples of a public dataset: python -m profiling.fetch dataset=… [key=value …].

Which rows are taken depends on the seed and on the rows' names alone: the rank of a row is a hash
of both, and the rows of the lowest ranks are taken, in whatever order they come. Fewer samples
with the same seed are therefore the first ones of more. Files are written to a folder beside the
output, which is renamed when it is complete; an interrupted command continues where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from profiling import PROJECT
from profiling.arguments import print_anything, refuse
from profiling.errors import ConfigError, require_one_of, require_whole, unknown_key
from profiling.files import LARGEST_INDEX, LARGEST_PICTURE, PICTURE_FORMATS, read_bytes, read_json
from profiling.machine.locks import LockError, hold
from profiling.points.options import list_options
from profiling.points.readers import LARGEST_SEED
from profiling.samples import hub
from profiling.samples.pictures import PictureError, read_picture
from profiling.samples.samples import check_pictures, digest_samples, load_samples

CONF = PROJECT / "conf" / "fetch"
SAMPLES, SOURCE, STATE, PICTURES = "samples.json", "source.json", "progress.json", "pictures"
FAILED = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Often enough that little is read twice, seldom enough that writing costs nothing.
_ROWS_BETWEEN_SAVES = 100
_SUFFIXES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tif",
}
_COLUMNS = ("id", "picture", "question", "context", "choices", "references", "option")


class FetchError(RuntimeError):
    """A download that failed: one line that says what failed and what to do."""


class Unfit(ValueError):
    """Why a row cannot be a sample."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which samples to take from where. All fields but `output` decide which samples result."""

    dataset: str
    repository: str
    revision: str | None
    split: str
    source: str | None
    columns: Mapping[str, str]
    wording: str | None
    num_samples: int
    seed: int
    pool: int | None
    output: Path = field(compare=False)

    @property
    def place(self) -> str:
        return self.source or self.repository

    def facts(self) -> dict[str, Any]:
        facts = asdict(self)
        del facts["output"]
        return facts


@dataclass(kw_only=True)
class FetchState:
    """The rows read so far, those of the lowest ranks, and why others cannot be used."""

    rows_read: int
    state: dict[str, Any] | None
    kept: list[dict[str, Any]]
    left_out: Counter[str]


def main() -> None:
    print_anything()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(_describe_command())
        return
    try:
        request = read_request(sys.argv[1:])
        with reserved(request.output), hub.explained("dataset", request.place, request.revision):
            print(fetch(request, ["python", "-m", "profiling.fetch", *sys.argv[1:]]))
    except ConfigError as error:
        refuse(error)
    except (FetchError, LockError, hub.HubError) as error:
        refuse(error, FAILED)
    except OSError as error:
        refuse(f"{error}; the same command continues from there", FAILED)
    except KeyboardInterrupt:
        refuse("stopped; the same command continues from there", FAILED)


def _describe_command() -> str:
    sets = list_options("fetch")
    values = _read_yaml(sets[0])
    keys = [f"  {key}" + f" (here: {value})" * (value is not None) for key, value in values.items()]
    return "\n".join([str(__doc__), f"Keys: dataset ({', '.join(sets)}), and of {sets[0]}:", *keys])


# What was typed


def read_request(arguments: Sequence[str]) -> Request:
    """The yaml of a dataset, overridden by what was typed, and checked."""
    typed = dict(_split(argument) for argument in arguments)
    name = str(typed.pop("dataset", None))
    values = _read_yaml(name)
    for key, value in typed.items():
        if key not in values:
            raise unknown_key(key, value, ["dataset", *values])
        values[key] = value
    _check(values)
    source = None if values["source"] is None else _existing_folder(str(values["source"]))
    return Request(
        dataset=name,
        repository=str(values["repository"]),
        revision=None if source else str(values["revision"]),
        split=str(values["split"]),
        source=source,
        columns={key: str(values[key]) for key in _COLUMNS if values[key] is not None},
        wording=None if values["wording"] is None else str(values["wording"]),
        num_samples=values["num_samples"],
        seed=values["seed"],
        pool=values["pool"],
        output=_output(name, values),
    )


def _split(argument: str) -> tuple[str, Any]:
    key, equals, text = argument.partition("=")
    if not equals:
        raise ConfigError(argument, "", "allowed is key=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # the latter for a number of thousands of digits
        value = text
    # A folder may have a name that yaml reads as a list or a date.
    return key, value if value is None or isinstance(value, int) else text


def _read_yaml(name: str) -> dict[str, Any]:
    require_one_of("dataset", name, list_options("fetch"))
    values: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def _check(values: Mapping[str, Any]) -> None:
    require_whole("num_samples", values["num_samples"], at_least=1)
    require_whole("seed", values["seed"], at_least=0, at_most=LARGEST_SEED)
    if values["pool"] is not None:
        require_whole("pool", values["pool"], at_least=values["num_samples"])
    if not values["source"] and not _COMMIT.fullmatch(str(values["revision"])):
        raise ConfigError(
            "revision", values["revision"], "allowed is a commit: 40 hexadecimal digits"
        )
    for one, other in (("question", "wording"), ("references", "option")):
        if (values[one] is None) == (values[other] is None):
            raise ConfigError(one, values[one], f"allowed is to give either this or {other}")


def _existing_folder(written: str) -> str:
    folder = os.path.abspath(os.path.expanduser(written))
    if not os.path.isdir(folder):
        raise ConfigError("source", written, "there is no such folder")
    return folder


def _output(name: str, values: Mapping[str, Any]) -> Path:
    written = values["output"]
    if written is None:
        return Path("fetched") / f"{name}_{values['num_samples']}_seed{values['seed']}"
    path = Path(os.path.expanduser(str(written)))
    if os.path.exists(path) and not os.path.isdir(path):
        raise ConfigError("output", written, "there is a file of that name; allowed is a folder")
    return path


# Fetching


@contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Refuses a second fetch into the same folder."""
    output.parent.mkdir(parents=True, exist_ok=True)

    def refuse_to_wait(holder: str) -> None:
        raise FetchError(f"{output}: another fetch is writing to it ({holder}): wait for its end")

    with hold(output.parent / f"{output.name}.lock", on_wait=refuse_to_wait):
        yield


def fetch(request: Request, command: Sequence[str]) -> str:
    """Make the folder of samples, unless it is there; return what is printed at the end."""
    if request.output.exists():
        _check_finished(request)
        return _describe(request, "already there")
    partial = request.output.with_name(f"{request.output.name}.part")
    progress = _resume(request, partial)
    _import_datasets()
    with _readable_files(request.place):
        _read_rows(request, partial, progress)
    _finish(request, partial, progress, command)
    return _describe(request, "complete")


def _read_rows(request: Request, partial: Path, progress: FetchState) -> None:
    stream = _open(request)
    if progress.state is not None:
        stream.load_state_dict(progress.state)
    left = None if request.pool is None else max(0, request.pool - progress.rows_read)
    for row in islice(stream, left):
        _take(request, partial, progress, row)
        progress.rows_read += 1
        if progress.rows_read % _ROWS_BETWEEN_SAVES == 0:
            progress.state = stream.state_dict()
            _save(request, partial, progress)


def _check_finished(request: Request) -> None:
    """Refuse a folder that holds anything but what is asked for."""
    try:
        stored = read_json(request.output / SOURCE, at_most=LARGEST_INDEX)
        asked, digest = dict(stored["request"]), stored["samples_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            "output", request.output, "the folder was not made by a fetch; name another one"
        ) from None
    wanted = json.loads(json.dumps(request.facts()))
    other = [key for key, value in wanted.items() if key not in asked or asked[key] != value]
    if other:
        raise ConfigError(
            "output", request.output, f"holds another {', '.join(other)}; name another folder"
        )
    samples = load_samples(request.output, count=request.num_samples, at_most=None)
    if digest_samples(samples) != digest:
        raise ConfigError("output", request.output, "was changed since; remove it or name another")


def _resume(request: Request, partial: Path) -> FetchState:
    """What an interrupted command left, if it asked for the same; otherwise a new start."""
    try:
        stored = read_json(partial / STATE, at_most=LARGEST_INDEX)
    except (OSError, ValueError):
        stored = {}
    if not isinstance(stored, dict) or stored.get("request") != json.loads(
        json.dumps(request.facts())
    ):
        shutil.rmtree(partial, ignore_errors=True)
        (partial / PICTURES).mkdir(parents=True)
        return FetchState(rows_read=0, state=None, kept=[], left_out=Counter())
    print(f"continuing after {stored['rows_read']} rows", file=sys.stderr)
    del stored["request"]
    return FetchState(**{**stored, "left_out": Counter(stored["left_out"])})


def _save(request: Request, partial: Path, progress: FetchState) -> None:
    _write_json(partial / STATE, {"request": request.facts(), **vars(progress)})
    print(f"{progress.rows_read} rows read, {len(progress.kept)} kept", file=sys.stderr)


def _write_json(path: Path, content: object) -> None:
    """Write a file beside its place and rename it, so that it is complete or absent."""
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(beside, path)


@contextmanager
def _readable_files(place: str) -> Iterator[None]:
    """Turn the error for a damaged file into one line."""
    try:
        yield
    except import_module("pyarrow").ArrowException as error:
        raise FetchError(f"{place}: damaged: {error}") from error


def _open(request: Request) -> Any:
    """A stream of the columns that are needed, with pictures as the uploaded bytes."""
    datasets = _import_datasets()
    try:
        stream = datasets.load_dataset(
            request.source or request.repository,
            split=request.split,
            revision=request.revision,
            streaming=True,
        )
    except ValueError as error:
        # The library raises the same class for a wrong split and for its own failures.
        if "split" not in str(error).lower():
            raise FetchError(f"{request.place}: {error}") from error
        raise ConfigError("split", request.split, str(error)) from error
    available = list(stream.features or stream.column_names or [])
    for key, column in request.columns.items():
        if column not in available:
            raise ConfigError(
                key, column, f"{request.place} has no such column; it has {', '.join(available)}"
            )
    stream = stream.select_columns(sorted(set(request.columns.values())))
    # Shards of row groups instead of files: continuing reads at most one of them again.
    return stream.cast_column(request.columns["picture"], datasets.Image(decode=False)).reshard()


def _import_datasets() -> Any:
    spec = find_spec("datasets")
    # Without the package, the name resolves to this project's folder of samples.
    if spec is None or spec.origin is None:
        raise FetchError(
            "the datasets package is not installed: pip install -r requirements-data.txt"
        )
    datasets = import_module("datasets")
    datasets.disable_progress_bars()
    # It logs every attempt; only the last one matters.
    import_module("huggingface_hub.utils.logging").set_verbosity_error()
    return datasets


# Rows


def _take(request: Request, partial: Path, progress: FetchState, row: Mapping[str, Any]) -> None:
    """Keep a row if its rank is among the lowest so far, and write its picture."""
    position = progress.rows_read
    name = str(row[request.columns["id"]]) if "id" in request.columns else str(position)
    rank = hashlib.sha256(f"{request.seed}:{name}".encode()).hexdigest()
    full = len(progress.kept) == request.num_samples
    if full and rank >= progress.kept[-1]["rank"]:
        return
    try:
        entry = _read_row(request, row, name)
        picture = _write_picture(row[request.columns["picture"]], partial / PICTURES, position)
    except Unfit as reason:
        progress.left_out[str(reason)] += 1
        return
    if any(kept["entry"]["id"] == name for kept in progress.kept):
        raise ConfigError("id", request.columns.get("id"), f"two rows are called {name}")
    entry["image_path"] = f"{PICTURES}/{picture.name}"
    progress.kept.append({"rank": rank, "entry": entry})
    progress.kept.sort(key=lambda kept: kept["rank"])
    # Its picture stays until the end: an interrupted command may return to an earlier state.
    del progress.kept[request.num_samples :]


def _read_row(request: Request, row: Mapping[str, Any], name: str) -> dict[str, Any]:
    columns = request.columns
    question = request.wording or str(row[columns["question"]] or "").strip()
    if not question:
        raise Unfit("no question")
    context = str(row[columns["context"]] or "").strip() if "context" in columns else ""
    choices = [str(one) for one in row[columns["choices"]]] if "choices" in columns else []
    listed = " ".join(f"({number}) {choice}" for number, choice in enumerate(choices))
    parts = [f"context: {context}" if context else "", question, f"choices: {listed}"]
    return {
        "id": name,
        "image_path": None,
        "request": "\n".join(part for part in parts[: 3 if choices else 2] if part),
        "response": _read_response(request, row, choices),
    }


def _read_response(
    request: Request, row: Mapping[str, Any], choices: Sequence[str]
) -> str | list[str]:
    if "option" in request.columns:
        option = row[request.columns["option"]]
        if option is None or not 0 <= int(option) < len(choices):
            raise Unfit("no right choice")
        return str(int(option))
    answers = row[request.columns["references"]]
    if not answers:
        raise Unfit("no references")
    return [answers] if isinstance(answers, str) else [str(answer) for answer in answers]


def _write_picture(cell: Mapping[str, Any] | None, folder: Path, position: int) -> Path:
    """Write the uploaded bytes, and refuse those that are not a whole picture."""
    if not cell:
        raise Unfit("no picture")
    content = cell["bytes"]
    beside = folder / f"{position:06}.part"
    if content is None:
        content = read_bytes(cell["path"], at_most=LARGEST_PICTURE)
    beside.write_bytes(content)
    try:
        read_picture(beside)
    except PictureError:
        beside.unlink()
        raise Unfit("a broken picture") from None
    with Image.open(beside, formats=PICTURE_FORMATS) as picture:
        kind = str(picture.format)
    return beside.replace(beside.with_suffix(_SUFFIXES.get(kind, f".{kind.lower()}")))


def _finish(request: Request, partial: Path, progress: FetchState, command: Sequence[str]) -> None:
    if len(progress.kept) < request.num_samples:
        reasons = "".join(f", {count} have {reason}" for reason, count in progress.left_out.items())
        raise ConfigError(
            "num_samples",
            request.num_samples,
            f"of {progress.rows_read} rows read, {len(progress.kept)} can be used{reasons}",
        )
    entries = [kept["entry"] for kept in progress.kept]
    wanted = {entry["image_path"] for entry in entries}
    for path in (partial / PICTURES).iterdir():
        if f"{PICTURES}/{path.name}" not in wanted:
            path.unlink()
    _write_json(partial / SAMPLES, entries)
    samples = load_samples(partial, count=request.num_samples, at_most=None)
    check_pictures(partial, samples)
    source = {
        "request": request.facts(),
        "command": list(command),
        "rows_read": progress.rows_read,
        "left_out": dict(progress.left_out),
        "samples_digest": digest_samples(samples),
        "ids": [sample.id for sample in samples],
    }
    _write_json(partial / SOURCE, source)
    (partial / STATE).unlink(missing_ok=True)
    os.replace(partial, request.output)


def _describe(request: Request, how: str) -> str:
    return (
        f"{request.num_samples} samples in {request.output}, {how}: python main.py"
        f" dataset={request.dataset} dataset.folder={request.output}"
    )


if __name__ == "__main__":
    main()
