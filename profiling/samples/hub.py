"""Errors of the hub as one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

_SITE = "https://huggingface.co"
_LOG_IN = "log in (`hf auth login`) or set HF_TOKEN"
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_BUSY = 429
_REFUSED = (401, 403)
_BROKEN_FROM = 500


class HubError(RuntimeError):
    """A failed download from the hub; the message names it and says what to do."""


@contextmanager
def explained(kind: str, name: str, revision: str | None) -> Iterator[None]:
    """Turn library errors about a repository into a HubError; other errors pass."""
    try:
        yield
    except failures() as problem:
        line = explain(problem, kind=kind, name=name, revision=revision)
        if line is None:
            raise
        raise HubError(line) from problem


def failures() -> tuple[type[Exception], ...]:
    """The exceptions that `explain` may know."""
    errors = import_module("huggingface_hub.errors")
    # Older clients have no downloader of their own, hence no such error.
    downloader = getattr(errors, "XetDownloadError", OSError)
    return (OSError, RuntimeError, errors.HTTPError, downloader)


def explain(problem: BaseException, *, kind: str, name: str, revision: str | None) -> str | None:
    """One line about the first known cause; None if the hub is not the cause."""
    for cause in _causes(problem):
        line = _full_disk(cause, name) or _refusal(cause, kind, name, revision)
        if line:
            return line
    unreachable = any(_is_unreachable(cause) for cause in _causes(problem))
    return _describe_unreachable(problem, kind, name) if unreachable else None


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """An exception and its causes: libraries wrap specific errors in general ones."""
    seen: set[int] = set()
    cause: BaseException | None = problem
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _full_disk(cause: BaseException, name: str) -> str | None:
    by_number = isinstance(cause, OSError) and cause.errno in _FULL_DISK
    # The compiled downloader raises a RuntimeError with the system's message but without errno.
    if not by_number and "no space left on device" not in str(cause).lower():
        return None
    where = f" at {cause.filename}" if isinstance(cause, OSError) and cause.filename else ""
    return (
        f"{name}: the disk is full{where}: free space or set HF_HOME to a folder on a larger disk;"
        " the same command resumes"
    )


def _refusal(cause: BaseException, kind: str, name: str, revision: str | None) -> str | None:
    errors = import_module("huggingface_hub.errors")
    page = f"{_SITE}/datasets/{name}" if kind == "dataset" else f"{_SITE}/{name}"
    # GatedRepoError is a subclass of RepositoryNotFoundError, so it is tested first.
    if isinstance(cause, errors.GatedRepoError):
        return f"{name}: gated: ask for access on {page}, then {_LOG_IN}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{name}: there is no revision {revision}: {page}/commits/main lists them"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"{name}: no such {kind}, or a private one: check the name, or {_LOG_IN}"
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        return f"{name}: a file is missing at revision {revision}: {page}/tree/{revision} lists all"
    return _by_number(getattr(getattr(cause, "response", None), "status_code", None), name, page)


def _by_number(status: int | None, name: str, page: str) -> str | None:
    if status in _REFUSED:
        return f"{name}: the hub refuses ({status}): ask for access on {page}, then {_LOG_IN}"
    if status == _BUSY:
        return f"{name}: the hub asks to slow down ({status}): wait some minutes, or {_LOG_IN}"
    if status is not None and status >= _BROKEN_FROM:
        return f"{name}: the hub is out of order ({status}): run the same command again later"
    return None


def _is_unreachable(cause: BaseException) -> bool:
    errors = import_module("huggingface_hub.errors")
    kinds = (ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)
    # The hub's client raises this without a response when no answer came.
    silent = isinstance(cause, errors.HTTPError) and getattr(cause, "response", None) is None
    return isinstance(cause, kinds) or silent


def _describe_unreachable(problem: BaseException, kind: str, name: str) -> str:
    errors = import_module("huggingface_hub.errors")
    offline = any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _causes(problem))
    # Some libraries check the switch themselves and raise their own error.
    offline = offline or import_module("huggingface_hub.constants").HF_HUB_OFFLINE
    folder = "source=FOLDER" if kind == "dataset" else "model.checkpoint=FOLDER"
    if offline:
        return f"{name}: not on this machine and HF_HUB_OFFLINE is set: unset it, or give {folder}"
    return (
        f"{name}: the hub cannot be reached: check the connection (HTTPS_PROXY, HF_ENDPOINT)"
        f" and run the same command again, or give {folder}"
    )
