"""A whole command whose server repeats the key: nothing that it prints or leaves behind has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.composing import PROJECT, make_dataset
from tests.engines.endpoint.scripted_server import (
    MODEL,
    Body,
    Reply,
    Server,
    answer_to_picture,
    chunk,
    event,
    refuse,
    stream,
)

KEY = "sk-hunter2-0123456789"


def run(server: Server, folder: Path, *overrides: str) -> tuple[int, str]:
    """Exit status, and all that was printed."""
    make_dataset(folder / "mine")
    settings = (
        "engine=endpoint",
        f"engine.url={server.url}",
        f"engine.model={MODEL}",
        "engine.api_key_env=SERVED_KEY",
        "engine.retries=0",
        "profiler=quick",
        "profiler.repeats=3",
        "max_new_tokens=2",
        f"dataset.folder={folder / 'mine'}",
        f"results_dir={folder / 'results'}",
        "share_device=true",
    )
    done = subprocess.run(
        [sys.executable, str(PROJECT / "main.py"), *settings, *overrides],
        cwd=folder,
        env=os.environ | {"SERVED_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def left_behind(folder: Path) -> dict[str, str]:
    """Every file of the results by its name."""
    return {
        path.name: path.read_text(encoding="utf-8", errors="replace")
        for path in (folder / "results").rglob("*")
        if path.is_file()
    }


def late(body: Body) -> Reply:
    """Right until the point is measured, and then an error with the key in it."""
    if body["max_tokens"] > 2:
        return answer_to_picture(body)
    return Reply(events=[chunk("a"), event({"error": {"message": f"lost Bearer {KEY}"}})])


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        (lambda _: refuse(401, f"Incorrect API key provided: {KEY}"), "provided: ***"),
        pytest.param(
            lambda _: refuse(500, f"Traceback: headers={{'authorization': 'Bearer {KEY}'}}"),
            "***",
            marks=pytest.mark.slow,
        ),
        pytest.param(late, "lost Bearer ***", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_fails_leaves_no_key(
    server: Server, tmp_path: Path, chat: object, said: str
) -> None:
    server.chat = chat  # type: ignore[assignment]
    status, printed = run(server, tmp_path)
    files = left_behind(tmp_path)
    assert status == 1, printed
    assert said in printed
    assert {"run.json", "traceback.txt"} <= files.keys()
    record = json.loads(files["run.json"])
    assert (record["status"], record["config"]["engine"]["api_key_env"]) == ("failed", "SERVED_KEY")
    assert said in record["error"]
    assert any(headers.get("Authorization") == f"Bearer {KEY}" for _, headers, _ in server.asked)
    for text in (printed, *files.values()):
        assert KEY not in text and "hunter2" not in text
    # Nothing is half done: there is a whole record of the failure, and no number in it.
    assert files["answers.jsonl"] == ""
    assert files["readings.csv"].count("\n") == 1


def test_a_run_that_completes_leaves_no_key_beside_one_whose_server_is_down(
    server: Server, tmp_path: Path
) -> None:
    """In one command: the server that is down is told in a line, and the other is measured."""
    server.chat = lambda body: stream([KEY, body["messages"][0]["content"][1]["text"]], count=2)
    down = "http://127.0.0.1:1/v1"
    status, printed = run(server, tmp_path, f"engine.url={down},{server.url}", "-m")
    records = {}
    for path in (tmp_path / "results").rglob("run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        records[record["config"]["engine"]["url"]] = (record["status"], path.parent)
    assert status == 1, printed
    assert {url: found for url, (found, _) in records.items()} == {
        down: "failed",
        server.url: "completed",
    }
    assert "no server answers there" in printed
    assert "Traceback" not in printed
    answers = (records[server.url][1] / "answers.jsonl").read_text(encoding="utf-8")
    assert '"answer": "***' in answers
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    for text in (printed, *texts):
        assert "hunter2" not in text


def test_a_key_that_is_typed_is_not_repeated(server: Server, tmp_path: Path) -> None:
    status, printed = run(server, tmp_path, f"engine.api_key_env={KEY}")
    assert status == 2
    assert printed.count("\n") == 1 and printed.startswith("engine.api_key_env=…: ")
    assert "hunter2" not in printed
    assert server.asked == []


@pytest.mark.slow
def test_a_server_that_is_down_is_one_line(server: Server, tmp_path: Path) -> None:
    status, printed = run(server, tmp_path, "engine.url=http://127.0.0.1:1/v1")
    assert status == 1, printed
    assert "no server answers there" in printed
    assert "Traceback" not in printed
