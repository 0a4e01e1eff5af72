"""Files in the hub's cache are what their names say, or the checkpoint is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from profiling.errors import ConfigError
from profiling.machine.hub_cache import find_damage, is_downloaded
from profiling.models.weights import locate
from tests.composing import compose_point

NAME, COMMIT = "owner/model", "c" * 40
FILES = {
    "config.json": b'{"model_type": "llava"}',
    "model.safetensors": bytes(range(256)) * 40,
    "nested/chat.jinja": b"{{ messages }}",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in the layout of the hub's cache, with a branch that names its one commit."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--model"
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for name, content in FILES.items():
        link = folder / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = folder / "blobs" / name_blob(name, content)
        blob.write_bytes(content)
        link.symlink_to(blob)
    return folder


def name_blob(name: str, content: bytes) -> str:
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_an_intact_cache_is_taken(cache: Path, revision: str | None) -> None:
    assert is_downloaded(NAME, revision)
    assert find_damage(NAME, revision) is None


def test_what_is_not_downloaded_is_not_judged(cache: Path) -> None:
    assert not is_downloaded(NAME, "d" * 40) and find_damage(NAME, "d" * 40) is None
    assert not is_downloaded("owner/other", None) and find_damage("owner/other", None) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_wrong_byte_is_noticed(cache: Path, name: str, revision: str | None) -> None:
    blob = cache / "blobs" / name_blob(name, FILES[name])
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    assert find_damage(NAME, revision) == blob
    point = compose_point(
        "model=llava",
        "weights=pretrained",
        f"model.checkpoint={NAME}",
        f"model.revision={revision or 'null'}",
    )
    with pytest.raises(ConfigError, match=f"{blob.name}.* has other bytes than its name says"):
        locate(point)
