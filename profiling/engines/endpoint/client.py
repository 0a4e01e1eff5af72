"""The HTTP side: requests to one server, repeated where it asks for that, errors as one line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx2

from profiling.engines.endpoint.answer import Answer, Stream
from profiling.engines.endpoint.events import EventDecoder
from profiling.engines.endpoint.failures import (
    EndpointError,
    explain_missing,
    explain_redirection,
    explain_status,
    read_message,
)
from profiling.engines.trace import Clock

CHAT = "/chat/completions"
_REPEATED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_FIRST_PAUSE_S = 0.5
# Shorter than servers keep an idle connection, so that none is used that they are closing.
_KEEP_IDLE_S = 2.0
_IN_PLACE_OF_KEY = "***"


class Client:
    """Sends requests to the server of `settings`. Safe to use from several threads at once."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        key: str | None,
        clock: Clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.url = str(settings["url"]).rstrip("/")
        self.model = str(settings["model"])
        self.num_repeated = 0
        self._key = key
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._http = httpx2.Client(
            headers=_headers(key),
            # A token is to be seen when it arrives, not when a compressed block is full.
            timeout=httpx2.Timeout(settings["timeout_s"], connect=settings["connect_timeout_s"]),
            verify=settings["verify_tls"],
            follow_redirects=False,
            # A proxy has no business between a client and a server on one machine.
            trust_env=not is_loopback(self.url),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_KEEP_IDLE_S),
        )

    @property
    def root(self) -> str:
        """The address without /v1, below which servers have interfaces of their own."""
        return self.url.removesuffix("/v1")

    def close(self) -> None:
        self._http.close()

    # Asking

    def ask(self, body: Mapping[str, Any]) -> Answer:
        """The whole answer to one request, with the moments at which its tokens arrived."""
        where = f"POST {self.url}{CHAT}"
        deadline_s = time.monotonic() + self.settings["timeout_s"]
        with self._opened(where, "POST", f"{self.url}{CHAT}", body) as response:
            kind = response.headers.get("content-type", "")
            if "json" in kind:
                said = read_message(self._read(response, where))
                raise EndpointError(f"{where}: the server does not stream its answer: {said}")
            stream, events = Stream(where=where), EventDecoder()
            for data in self._arriving(response, where, stream):
                moment = self._clock.mark()
                for event in events.feed(data):
                    stream.take(self._hide(event), moment)
                if stream.is_done:
                    break
                if time.monotonic() > deadline_s:
                    raise EndpointError(f"{where}: {self._slow(stream.num_events)}")
            for event in events.finish():
                stream.take(self._hide(event), self._clock.mark())
        return stream.finish()

    def _arriving(self, response: httpx2.Response, where: str, stream: Stream) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except httpx2.TimeoutException:
            raise EndpointError(f"{where}: {self._slow(stream.num_events)}") from None
        except httpx2.HTTPError as error:
            # Some servers close the connection without ending the stream in due form.
            if not stream.is_whole:
                after = f"after {stream.num_events} events"
                broke = f"{where}: the stream broke off {after}: {self._hide(str(error))}"
                raise EndpointError(broke) from None

    def _slow(self, events: int) -> str:
        limit = f"within engine.timeout_s={self.settings['timeout_s']:g}"
        return f"the answer did not end {limit} ({events} events came)"

    # Looking things up

    def look_up(self, path: str) -> Any | None:
        """The JSON below the root, or the text where it is none; None where it is not there."""
        try:
            response = self._http.get(f"{self.root}{path}")
        except httpx2.HTTPError:
            return None
        return self._content(response) if response.status_code == HTTPStatus.OK else None

    def send(self, path: str, body: Mapping[str, Any]) -> Any | None:
        """The same for an interface that takes a request."""
        try:
            response = self._http.post(f"{self.root}{path}", json=body)
        except httpx2.HTTPError:
            return None
        return self._content(response) if response.status_code == HTTPStatus.OK else None

    def _content(self, response: httpx2.Response) -> Any:
        text = self._hide(response.text)
        try:
            return json.loads(text)
        except ValueError:
            return text

    def list_models(self) -> list[dict[str, Any]]:
        """What the server lists; nothing where it lists none in the usual form."""
        found = self.look_up("/v1/models" if self.url.endswith("/v1") else "/models")
        listed = found.get("data") if isinstance(found, Mapping) else None
        if not isinstance(listed, list):
            return []
        return [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]

    # Sending

    @contextmanager
    def _opened(
        self, where: str, method: str, url: str, body: Mapping[str, Any]
    ) -> Iterator[httpx2.Response]:
        """The response with its content still to come, once the server accepts the request."""
        for repetition in range(self.settings["retries"] + 1):
            with self._sent(where, method, url, body) as response:
                if response.status_code == HTTPStatus.OK:
                    yield response
                    return
                is_last = repetition == self.settings["retries"]
                if response.status_code not in _REPEATED or is_last:
                    raise self._explain(response, where)
                pause_s = self._pause_s(response.headers.get("retry-after"), repetition)
            with self._lock:
                self.num_repeated += 1
            self._sleep(pause_s)

    @contextmanager
    def _sent(
        self, where: str, method: str, url: str, body: Mapping[str, Any]
    ) -> Iterator[httpx2.Response]:
        request = self._http.build_request(method, url, json=body)
        try:
            response = self._http.send(request, stream=True)
        except httpx2.ConnectTimeout:
            limit = f"engine.connect_timeout_s={self.settings['connect_timeout_s']:g}"
            raise EndpointError(f"{where}: no connection within {limit}") from None
        except httpx2.TimeoutException:
            raise EndpointError(f"{where}: {self._slow(0)}") from None
        except httpx2.ConnectError as error:
            said = self._hide(str(error))
            raise EndpointError(f"{where}: no server answers there: {said}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            said = self._hide(str(error))
            raise EndpointError(f"{where}: the request was not answered: {said}") from None
        try:
            yield response
        finally:
            response.close()

    def _pause_s(self, asked: str | None, repetition: int) -> float:
        """What the server asks for, or else twice as long each time; never above the bound."""
        pause_s = _read_pause_s(asked)
        if pause_s is None:
            pause_s = _FIRST_PAUSE_S * 2**repetition
        return min(max(0.0, pause_s), float(self.settings["longest_pause_s"]))

    def _explain(self, response: httpx2.Response, where: str) -> EndpointError:
        status = response.status_code
        if response.is_redirect or 300 <= status < 400:
            target = self._hide(response.headers.get("location", ""))
            return explain_redirection(status, target, where=where)
        message = read_message(self._read(response, where))
        if status == HTTPStatus.NOT_FOUND:
            known = [one["id"] for one in self.list_models()]
            return explain_missing(message, where=where, model=self.model, known=known)
        return explain_status(status, message, where=where)

    def _read(self, response: httpx2.Response, where: str) -> str:
        try:
            response.read()
        except httpx2.HTTPError as error:
            said = self._hide(str(error))
            raise EndpointError(f"{where}: status {response.status_code}: {said}") from None
        return self._hide(response.text)

    def _hide(self, text: str) -> str:
        """The server's words without the key, which some servers repeat."""
        return text.replace(self._key, _IN_PLACE_OF_KEY) if self._key else text

    def __repr__(self) -> str:
        return f"Client({self.url}, {self.model})"


def _headers(key: str | None) -> dict[str, str]:
    headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
    return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_pause_s(asked: str | None) -> float | None:
    """Seconds, from a number of them or from a date."""
    if asked is None:
        return None
    try:
        return float(asked)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(asked).astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except ValueError:
        return None
