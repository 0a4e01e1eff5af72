"""Folders that are broken, or made to do harm: one line that names what is wrong, nothing run."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import profiling.verify
from profiling.captures.folder import Capture
from profiling.errors import ConfigError
from tests.captures.captured import capture_scaled


def description(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        facts = json.loads((folder / "capture.json").read_text())
        change(facts)
        (folder / "capture.json").write_text(json.dumps(facts))

    return edit


def call(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "calls.jsonl"
        first, *others = path.read_text().splitlines()
        told = json.loads(first)
        change(told)
        path.write_text("\n".join([json.dumps(told), *others, ""]))

    return edit


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


TENSORS = "tensors-00000.safetensors"


def make_pipe(folder: Path) -> None:
    (folder / TENSORS).unlink()
    os.mkfifo(folder / TENSORS)


def link_elsewhere(folder: Path) -> None:
    (folder / "calls.jsonl").unlink()
    (folder / "calls.jsonl").symlink_to("/dev/zero")


def change_values(folder: Path) -> None:
    tensors = load_file(folder / TENSORS)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / TENSORS)


def argument(value: Any) -> Callable[[Path], None]:
    return call(lambda told: told.update(args=[value]))


def tensor_argument(**changes: Any) -> Callable[[Path], None]:
    return call(lambda told: told["args"][0].update(changes))


def nested(depth: int) -> Any:
    return b'{"list": [' * depth + b"]}" * depth


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (remove("capture.json"), "there is no capture.json"),
    "no calls": (remove("calls.jsonl"), "there is no calls.jsonl"),
    "no tensors": (remove(TENSORS), "there is no tensors-00000"),
    "not JSON": (write("capture.json", b"{"), "capture.json is not JSON"),
    "not text": (write("capture.json", b"\xff\xfe"), "capture.json cannot be read"),
    "a list": (write("capture.json", b"[]"), "capture.json is not an object"),
    "nan": (write("capture.json", b'{"format": NaN}'), "NaN is no number"),
    "nested": (write("capture.json", b"[" * 100_000), "nested too deeply|not JSON"),
    "another format": (description(lambda f: f.update(format=99)), "format 99; this version"),
    "a format that is true": (description(lambda f: f.update(format=True)), "format is missing"),
    "no modules": (description(lambda f: f.pop("modules")), "modules is missing"),
    "modules of another kind": (description(lambda f: f.update(modules=[])), "modules is missing"),
    "no config": (description(lambda f: f["modules"][""].update(config=7)), "no such config"),
    "a deep module": (
        description(lambda f: f["modules"].update({"a." * 5000: f["modules"][""]})),
        "nested too deeply",
    ),
    "negative files": (description(lambda f: f.update(files=-1)), "files is negative"),
    "many files": (description(lambda f: f.update(files=10**6)), "there is no tensors-00001"),
    "other count": (description(lambda f: f.update(calls=1)), "calls, capture.json says 1"),
    "an unknown module": (call(lambda c: c.update(module="../x")), r"line 1: no module is called"),
    "its own parent": (call(lambda c: c.update(parent=c["id"])), "line 1: calls are not numbered"),
    "no output": (call(lambda c: c.pop("output")), "line 1: output"),
    "a torn line": (write("calls.jsonl", b'{"id": 0, "par\n'), "line 1 is not JSON"),
    "not safetensors": (write(TENSORS, b"\x80\x04pickle"), "is not safetensors"),
    "an absurd header": (write(TENSORS, struct.pack("<Q", 2**62)), "is not safetensors"),
    "a pipe": (make_pipe, "is not a regular file"),
    "a link": (link_elsewhere, "calls.jsonl is not a regular file"),
    "other values": (change_values, "has other values than its digest"),
    "an unknown tensor": (tensor_argument(tensor="../../etc/passwd"), "no file has the tensor"),
    "a tensor by number": (tensor_argument(tensor=3), "a name that is no text"),
    "another shape": (tensor_argument(shape=[1, 18]), "another shape or dtype"),
    "absurd strides": (tensor_argument(strides=[10**12, 1], offset=0), "reach too far"),
    "negative strides": (tensor_argument(strides=[-6, 1], offset=0), "strides that do not belong"),
    "overlapping strides": (tensor_argument(strides=[1, 1], offset=0), "overlap"),
    "a wild offset": (tensor_argument(strides=[6, 1], offset=2**40), "offset"),
    "again what was not there": (argument({"again": 3}), "not there before"),
    "an unknown kind": (argument({"pickle": "gASV"}), "a value of no known kind"),
    "a bare list": (argument([1, 2]), "a list without a kind"),
    "a class of another library": (
        argument({"cache": "Popen", "state": {}}),
        "no cache class Popen",
    ),
    "a cache without layers": (
        argument({"cache": "DynamicCache", "state": {}}),
        "a cache without layers",
    ),
    "a layer that is none": (
        argument({"cache": "DynamicCache", "state": {"layers": {"list": [1]}}}),
        "a cache without layers",
    ),
    "parameters that are no texts": (
        description(lambda f: f["modules"][""].update(parameters=[{}])),
        "parameters are not texts",
    ),
    "a method that is overwritten": (
        argument({"layer": "DynamicLayer", "state": {"update": 1}}),
        "no attribute update",
    ),
    "an absurd size": (argument({"size": [{"list": []}]}), "."),
    "a bad number": (argument({"float": "1e5"}), "neither nan nor infinite"),
    "a bad key": (argument({"pairs": [[{"list": []}, 1]]}), "a key that cannot be one"),
    "a bad dtype": (argument({"dtype": "save"}), "no dtype is called save"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_named(name: str, tmp_path: Path) -> None:
    _, found = capture_scaled(tmp_path / "calls")
    edit, told = BROKEN[name]
    edit(found.folder)
    with pytest.raises(ConfigError, match=told) as caught:
        again = Capture(found.folder)
        for one in again.calls:
            again.arguments(one)
            again.output(one)
    assert "\n" not in str(caught.value)
    assert str(found.folder) in str(caught.value)


def test_a_deep_value_is_refused(tmp_path: Path) -> None:
    _, found = capture_scaled(tmp_path / "calls")
    deep: Any = 1
    for _ in range(400):
        deep = {"list": [deep]}
    argument(deep)(found.folder)
    again = Capture(found.folder)
    try:
        again.arguments(again.calls[0])
    except ConfigError as error:
        assert "nested too deeply" in str(error)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        Capture(tmp_path / "nowhere")


def test_reading_imports_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description that names code: it stays text."""
    _, found = capture_scaled(tmp_path / "calls")
    mark = tmp_path / "ran"
    evil = {"opaque": f"__import__('os').mkdir('{mark}')"}
    argument(evil)(found.folder)
    again = Capture(found.folder)
    again.arguments(again.calls[0])
    assert not mark.exists()
    assert torch.equal(again.output(again.calls[1]), found.output(found.calls[1]))


def test_names_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = capture_scaled(tmp_path / "calls")
    name = "in\x1b[31mner\n\x07"
    description(lambda f: f["modules"].update({name: f["modules"]["inner"]}))(found.folder)
    call(lambda c: c.update(module=name))(found.folder)
    with pytest.raises(SystemExit):
        profiling.verify.main([str(found.folder), "--against", str(found.folder)])
    told = capsys.readouterr().out
    assert "in\ufffd[31mner\ufffd\ufffd" in told
    assert all(c.isprintable() or c == "\n" for c in told)
