"""A server that answers as a test tells it, in a thread of this process."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from profiling.points.point import Point
from tests.composing import compose_point

MODEL = "served"
CHAT = "/v1/chat/completions"
GIVEN = ("engine.url=http://127.0.0.1/v1", f"engine.model={MODEL}", "engine.timeout_s=20")
Body = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent back: a status with a body, or a stream of events."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    events: Sequence[str] = ()
    # Seconds before each event.
    pause_s: float = 0.0
    # Closes the connection in the middle of the stream.
    is_cut: bool = False
    # Set by the test when the server may go on after the events.
    held: threading.Event | None = None


def event(content: Body | str) -> str:
    return f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n"


def chunk(content: str | None, *, finish: str | None = None, **more: Any) -> str:
    delta = {} if content is None else {"content": content}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def usage(prompt: int, new: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": new, **more}


def stream(pieces: Sequence[str], *, count: int | None = None, **reply: Any) -> Reply:
    """Pieces of text, then the end; with usage where a count is given."""
    more = {} if count is None else {"usage": usage(30, count)}
    events = [
        event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
        *map(chunk, pieces),
        chunk(None, finish="stop", **more),
        event("[DONE]"),
    ]
    return Reply(events=events, **reply)


def refuse(status: int, message: str, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": message, "code": status}})
    return Reply(status=status, body=body, headers=headers)


def picture_of(body: Body) -> str:
    return str(body["messages"][0]["content"][0]["image_url"]["url"])


def question_of(body: Body) -> str:
    return str(body["messages"][0]["content"][-1]["text"])


def answer_to_picture(body: Body) -> Reply:
    """A word that depends on the picture and the question, as long as is asked for."""
    seen = hashlib.sha256((picture_of(body) + question_of(body)).encode()).hexdigest()
    pieces = [seen[i] for i in range(3)]
    if "min_tokens" in body:
        pieces = [seen[i % 60] for i in range(body["max_tokens"])]
        return stream(pieces, count=len(pieces))
    pieces = pieces[: body["max_tokens"]]
    # The end is a token without text.
    return stream(pieces, count=min(len(pieces) + 1, body["max_tokens"]))


class Server:
    """Its address, what it was asked, and how it answers."""

    def __init__(self) -> None:
        self.chat: Callable[[Body], Reply] = answer_to_picture
        self.routes: dict[str, Callable[[Body], Reply] | Reply] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.httpd.daemon_threads = True

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.httpd.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The requests for answers, in order."""
        return [body for path, _, body in self.asked if path == CHAT]

    def answer(self, path: str, headers: dict[str, str], body: Any) -> Reply:
        self.asked.append((path, headers, body))
        if path == CHAT:
            return self.chat(body)
        route = self.routes.get(path, refuse(404, "Not Found"))
        return route(body) if callable(route) else route

    def point(self, *overrides: str) -> Point:
        """A point for this server. Its address is put in afterwards: composing is slow."""
        composed = compose_point("engine=endpoint", *GIVEN, *overrides)
        return replace(composed, engine_settings={**composed.engine_settings, "url": self.url})


def as_json(content: Any) -> Reply:
    return Reply(body=json.dumps(content))


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.httpd.shutdown()
        server.httpd.server_close()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A small write waits for the one before it otherwise.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self._reply(json.loads(self.rfile.read(length)))

        def _reply(self, body: Any) -> None:
            reply = server.answer(self.path, dict(self.headers.items()), body)
            try:
                self._send_body(reply) if reply.body is not None else self._send_events(reply)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def _send_body(self, reply: Reply) -> None:
            data = (reply.body or "").encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _send_events(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for one in reply.events:
                time.sleep(reply.pause_s)
                data = one.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            if reply.held is not None:
                reply.held.wait(30)
            if reply.is_cut:
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
