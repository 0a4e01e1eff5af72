"""Questions of an exact length, by the tokenizer of the server."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, overload

from profiling.engines.endpoint.client import Client
from profiling.errors import ConfigError, Unsupported
from profiling.samples.prompt_length import NoSuchLength, fit_question

PATH = "/tokenize"
NO_TOKENIZER = (
    f"prompt_len needs the server's tokenizer, and the server has no {PATH} (vLLM, SGLang,"
    " llama.cpp and TGI have one)"
)
_REMEMBERED = 4096


class QuestionTokens:
    """Counts the tokens of questions; a question is tokenized alone, without the template."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._count = lru_cache(maxsize=_REMEMBERED)(self._ask)
        self.is_there = self._ask("a") is not None

    def count(self, question: str) -> int | None:
        return self._count(question) if self.is_there else None

    def fit(self, question: str, length: int) -> str:
        """The question cut or filled up to exactly so many tokens."""
        if not self.is_there:
            raise Unsupported(NO_TOKENIZER)
        try:
            return fit_question(question, length, self._ends)
        except NoSuchLength as error:
            raise ConfigError("prompt_len", length, str(error)) from None

    def _ends(self, question: str) -> Sequence[int]:
        return _Ends(question, self)

    def count_known(self, question: str) -> int:
        found = self._count(question)
        if found is None:
            raise Unsupported(f"the server's {PATH} stopped to answer")
        return found

    def _ask(self, text: str) -> int | None:
        if not text:
            return 0
        # Each kind of server reads the names that it knows, and passes over the others.
        body = {
            "model": self._client.model,
            "prompt": text,
            "content": text,
            "inputs": text,
            "add_special_tokens": False,
            "add_special": False,
        }
        return _read_count(self._client.send(PATH, body))


def _read_count(found: Any) -> int | None:
    if isinstance(found, list):
        return len(found)
    if not isinstance(found, Mapping):
        return None
    count, tokens = found.get("count"), found.get("tokens")
    if isinstance(count, int):
        return count
    return len(tokens) if isinstance(tokens, list) else None


class _Ends(Sequence[int]):
    """Where each token of a question ends, found by counting the tokens of its beginnings."""

    def __init__(self, question: str, tokens: QuestionTokens) -> None:
        self._question, self._tokens = question, tokens

    def __len__(self) -> int:
        return self._tokens.count_known(self._question)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        wanted = range(len(self))[index] + 1
        positions = range(len(self._question) + 1)
        return bisect_left(positions, wanted, key=self._count_before)

    def _count_before(self, position: int) -> int:
        return self._tokens.count_known(self._question[:position])
