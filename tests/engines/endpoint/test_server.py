"""A server is told by what only its kind answers, and says whether it caches prefixes."""

from __future__ import annotations

from typing import Any

import pytest

from profiling.engines.endpoint.client import Client
from profiling.engines.endpoint.server import Prefixes, identify
from profiling.engines.endpoint.server import Server as Known
from profiling.engines.trace import HostClock
from tests.engines.endpoint.scripted_server import Reply, Server, as_json

VLLM = {
    "/version": {"version": "0.33.0"},
    "/v1/models": {"data": [{"id": "served", "owned_by": "vllm"}]},
    "/metrics": "# HELP x\n"
    'vllm:cache_config_info{block_size="16",enable_prefix_caching="True"} 1.0',
}
SGLANG = {
    "/server_info": {"version": "0.6.1", "disable_radix_cache": False, "model_path": "m"},
    "/version": {"version": "not this"},
}
OLD_SGLANG = {"/get_server_info": {"version": "0.4", "disable_radix_cache": True}}
LLAMA_CPP = {"/props": {"build_info": "b9000-abc", "total_slots": 4}}
TGI = {"/info": {"model_id": "m", "version": "3.3.6", "router": "text-generation-router"}}
TRANSFORMERS = {"/openapi.json": {"paths": {"/load_model": {}, "/v1/chat/completions": {}}}}
OLLAMA = {"/api/version": {"version": "0.9"}}


def script(server: Server, answers: dict[str, Any]) -> Client:
    for path, content in answers.items():
        server.routes[path] = Reply(body=content) if isinstance(content, str) else as_json(content)
    return Client(server.point().engine_settings, key=None, clock=HostClock())


@pytest.mark.parametrize(
    ("answers", "name", "version", "caching"),
    [
        (VLLM, "vLLM", "0.33.0", True),
        (SGLANG, "SGLang", "0.6.1", True),
        (OLD_SGLANG, "SGLang", "0.4", False),
        (LLAMA_CPP, "llama.cpp", "b9000-abc", True),
        (TGI, "TGI", "3.3.6", None),
        (TRANSFORMERS, "transformers serve", None, None),
        (OLLAMA, "Ollama", "0.9", None),
        ({}, None, None, None),
        ({"/version": "1.0"}, None, None, None),
        ({"/props": {"default": 1}, "/info": []}, None, None, None),
    ],
)
def test_servers_are_told_apart(
    server: Server, answers: dict[str, Any], name: str, version: str, caching: bool | None
) -> None:
    found = identify(script(server, answers))
    assert (found.name, found.version, found.prefix_caching) == (name, version, caching)
    assert found.prefix_caching_source


@pytest.mark.parametrize(("told", "caching"), [("False", False), ("None", None)])
def test_prefix_caching_of_vllm_is_what_its_metrics_say(
    server: Server, told: str, caching: bool | None
) -> None:
    metrics = f'vllm:cache_config_info{{a="1",enable_prefix_caching="{told}"}} 1.0'
    assert identify(script(server, VLLM | {"/metrics": metrics})).prefix_caching is caching


def test_models_are_listed(server: Server) -> None:
    assert identify(script(server, VLLM)).models == ("served",)


# Keeping earlier passes out


def fields(client: Client, name: str | None, *, fresh: bool = True) -> Prefixes:
    known = Known(name=name, version=None, models=(), prefix_caching=None, prefix_caching_source="")
    return Prefixes(client=client, server=known, fresh=fresh)


def test_each_pass_has_a_salt_of_its_own(server: Server) -> None:
    prefixes = fields(script(server, VLLM), "vLLM")
    first = prefixes.fields()
    assert first.keys() == {"cache_salt"} and prefixes.fields() == first
    prefixes.renew()
    assert prefixes.fields() != first


def test_a_request_can_say_that_nothing_is_reused(server: Server) -> None:
    prefixes = fields(script(server, {}), "llama.cpp")
    prefixes.renew()
    assert prefixes.fields() == {"cache_prompt": False}
    assert server.asked == []


def test_a_cache_can_be_emptied(server: Server) -> None:
    prefixes = fields(script(server, {}), "SGLang")
    prefixes.renew()
    assert prefixes.fields() == {}
    assert [path for path, _, _ in server.asked] == ["/flush_cache"]


@pytest.mark.parametrize(("name", "fresh"), [("vLLM", False), ("TGI", True), (None, True)])
def test_nothing_is_done_where_it_is_not_wanted_or_not_known(
    server: Server, name: str | None, fresh: bool
) -> None:
    prefixes = fields(script(server, {}), name, fresh=fresh)
    prefixes.renew()
    assert (prefixes.fields(), prefixes.way, server.asked) == ({}, None, [])
