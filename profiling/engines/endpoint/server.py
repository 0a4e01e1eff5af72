"""What a server says of itself: name and version, models, whether it caches prefixes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from profiling.engines.endpoint.client import Client

VLLM, SGLANG, LLAMA_CPP, TGI = "vLLM", "SGLang", "llama.cpp", "TGI"
TRANSFORMERS, OLLAMA = "transformers serve", "Ollama"
_VLLM_CACHE = re.compile(r'^vllm:cache_config_info\{.*enable_prefix_caching="(\w+)"', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Server:
    """What is known of a server. `prefix_caching` is None where it does not tell."""

    name: str | None
    version: str | None
    models: tuple[str, ...]
    prefix_caching: bool | None
    prefix_caching_source: str

    def describe(self) -> str:
        return f"{self.name or 'a server that does not name itself'} {self.version or ''}".strip()


@dataclass(frozen=True, kw_only=True)
class _Product:
    """How a kind of server is told: what it answers at a path that others have not."""

    name: str
    path: str
    fits: Callable[[Mapping[str, Any]], bool]
    version: str | None


# Paths that only one kind has come first; `/version` is common.
_PRODUCTS = (
    _Product(name=LLAMA_CPP, path="/props", fits=lambda c: "build_info" in c, version="build_info"),
    _Product(
        name=SGLANG,
        path="/server_info",
        fits=lambda c: "disable_radix_cache" in c,
        version="version",
    ),
    _Product(
        name=SGLANG,
        path="/get_server_info",
        fits=lambda c: "disable_radix_cache" in c,
        version="version",
    ),
    _Product(
        name=TGI,
        path="/info",
        fits=lambda c: {"model_id", "version"} <= c.keys(),
        version="version",
    ),
    _Product(name=OLLAMA, path="/api/version", fits=lambda c: "version" in c, version="version"),
    _Product(name=VLLM, path="/version", fits=lambda c: "version" in c, version="version"),
    _Product(
        name=TRANSFORMERS,
        path="/openapi.json",
        fits=lambda c: {"/load_model", "/v1/chat/completions"} <= (c.get("paths") or {}).keys(),
        version=None,
    ),
)


def identify(client: Client) -> Server:
    """Ask a server what it is; nothing of this is timed, and nothing of it has to be answered."""
    name, version, content = _find_product(client)
    caching, source = _find_prefix_caching(client, name, content)
    return Server(
        name=name,
        version=version,
        models=tuple(one["id"] for one in client.list_models()),
        prefix_caching=caching,
        prefix_caching_source=source,
    )


def _find_product(client: Client) -> tuple[str | None, str | None, Mapping[str, Any]]:
    for product in _PRODUCTS:
        content = client.look_up(product.path)
        if isinstance(content, Mapping) and product.fits(content):
            version = content.get(product.version) if product.version else None
            return product.name, None if version is None else str(version), content
    return None, None, {}


def _find_prefix_caching(
    client: Client, name: str | None, content: Mapping[str, Any]
) -> tuple[bool | None, str]:
    if name == VLLM:
        found = _VLLM_CACHE.search(str(client.look_up("/metrics") or ""))
        if found and found[1] in ("True", "False"):
            return found[1] == "True", "vllm:cache_config_info of /metrics"
    if name == SGLANG:
        return not content["disable_radix_cache"], "disable_radix_cache of the server's settings"
    if name == LLAMA_CPP:
        return True, "the default of cache_prompt"
    return None, "the server does not tell whether it caches prefixes"


class Prefixes:
    """Has a server forget, or set apart, the prefixes that an earlier pass left in its cache."""

    def __init__(self, *, client: Client, server: Server, fresh: bool) -> None:
        self._client = client
        self._name = server.name if fresh else None
        self._salt = uuid.uuid4().hex

    def renew(self) -> None:
        self._salt = uuid.uuid4().hex
        if self._name == SGLANG:
            self._client.send("/flush_cache", {})

    def fields(self) -> dict[str, Any]:
        """What each request says about the cache."""
        if self._name == VLLM:
            return {"cache_salt": self._salt}
        if self._name == LLAMA_CPP:
            return {"cache_prompt": False}
        return {}

    @property
    def way(self) -> str | None:
        """How earlier passes are kept out; None where they are not."""
        ways = {
            VLLM: "each pass over the samples has a cache_salt of its own",
            LLAMA_CPP: "requests say cache_prompt=false",
            SGLANG: "/flush_cache before each pass over the samples",
        }
        return ways.get(self._name or "")
