"""An error of the hub or the connection is one line that says what to do."""

from __future__ import annotations

import errno
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from profiling.errors import ConfigError
from profiling.models.loading import find_family
from profiling.models.weights import locate
from profiling.samples.hub import HubError, explain, explained
from tests.composing import compose_point
from tests.tiny_models import build

errors = import_module("huggingface_hub.errors")
NAME, REVISION = "owner/network", "0" * 40


class Answer:
    """The attributes of a response that the client reads."""

    headers: dict[str, str] = {}  # noqa: RUF012 (the client's errors look into it)
    request = None

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def refuse(kind: type[Exception], status: int) -> Exception:
    problem = kind.__new__(kind)
    Exception.__init__(problem, f"{status} from the hub\nwith a second line")
    problem.response = Answer(status)  # type: ignore[attr-defined]
    return problem


def wrap(problem: BaseException) -> OSError:
    """As the library does: an unspecific error, raised from the specific one."""
    try:
        try:
            raise problem
        except BaseException as cause:
            raise OSError("cannot load the file, is it there?") from cause
    except OSError as wrapped:
        return wrapped


CASES: dict[str, tuple[BaseException, str]] = {
    "gated": (refuse(errors.GatedRepoError, 403), "gated: ask for access on https://"),
    "no repository": (refuse(errors.RepositoryNotFoundError, 401), "no such model, or a private"),
    "no revision": (refuse(errors.RevisionNotFoundError, 404), f"no revision {REVISION}: https://"),
    "no file": (refuse(errors.RemoteEntryNotFoundError, 404), "a file is missing at revision"),
    "refused": (refuse(errors.HfHubHTTPError, 403), "the hub refuses (403)"),
    "too many": (refuse(errors.HfHubHTTPError, 429), "asks to slow down (429)"),
    "broken": (refuse(errors.HfHubHTTPError, 503), "out of order (503)"),
    "silent": (errors.HTTPError("no answer"), "cannot be reached: check the connection"),
    "no route": (ConnectionError("no route to host"), "cannot be reached: check the connection"),
    "too slow": (TimeoutError("read timed out"), "cannot be reached: check the connection"),
    "not cached": (errors.LocalEntryNotFoundError("not here"), "cannot be reached"),
    "offline": (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set: unset it"),
    "disk": (OSError(errno.ENOSPC, "No space left on device", "/data"), "disk is full at /data"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full: free space"),
    "downloader": (
        RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"),
        "the disk is full: free space or set HF_HOME",
    ),
}


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run offline; these errors occur online."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cause_is_found_and_explained(name: str, wrapped: bool) -> None:
    problem, expected = CASES[name]
    line = explain(
        wrap(problem) if wrapped else problem, kind="model", name=NAME, revision=REVISION
    )
    assert line is not None
    assert line.startswith(f"{NAME}: ") and expected in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "problem", [RuntimeError("CUDA error"), OSError("no file named model.bin"), PermissionError(13)]
)
def test_what_has_another_cause_passes_as_it_is(problem: Exception) -> None:
    with pytest.raises(type(problem)) as caught, explained("model", NAME, REVISION):
        raise problem
    assert caught.value is problem


def test_a_set_s_page_is_the_set_s() -> None:
    line = explain(CASES["gated"][0], kind="dataset", name=NAME, revision=None)
    assert line is not None and f"https://huggingface.co/datasets/{NAME}," in line


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("name", ["gated", "no revision", "no route", "disk"])
@pytest.mark.parametrize("step", ["config", "network"])
def test_loading_a_public_checkpoint_says_what_to_do(
    name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = compose_point("model=llava", "weights=pretrained")
    problem, expected = CASES[name]
    kind = find_family("llava").layout.network_class

    def fail(*_: Any, **__: Any) -> None:
        raise wrap(problem)

    if step == "config":
        monkeypatch.setattr(kind.config_class, "get_config_dict", fail)
    else:
        tiny = locate(compose_point("model=llava"))
        monkeypatch.setattr("profiling.models.loading.load_family", lambda *_: tiny_family(tiny))
        monkeypatch.setattr(kind, "from_pretrained", fail)
    with pytest.raises(HubError) as caught:
        build(point)
    said = str(caught.value)
    assert said.startswith(f"{point.checkpoint}: ") and "\n" not in said
    assert expected.replace(REVISION, str(point.revision)) in said


def tiny_family(source: Any) -> Any:
    kind = find_family("llava")
    config = kind.layout.network_class.config_class.from_pretrained(source.config)
    return kind.load(config=config, folder=source.processor, processor_options=source.options)


def test_a_checkpoint_that_is_not_on_this_machine_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a hub, as in these tests."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match=r"llava-hf/llava-1\.5-7b-hf: .*HF_HUB_OFFLINE is set"):
        build(compose_point("model=llava", "weights=pretrained"))


def test_a_repository_of_another_family_is_named_before_anything_large_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = find_family("llava").layout.network_class
    monkeypatch.setattr(
        kind.config_class,
        "get_config_dict",
        lambda *_, **__: ({"model_type": "llava_next", "text_config": {"model_type": "llama"}}, {}),
    )
    with pytest.raises(
        ConfigError, match=r"config\.json has model_type llava_next; llava is llava"
    ):
        build(compose_point("model=llava", "weights=pretrained"))
