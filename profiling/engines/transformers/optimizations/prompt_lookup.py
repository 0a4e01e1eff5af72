"""Tokens are drafted from the prompt and the answer so far: what followed the last words before."""

from __future__ import annotations

from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.drafting import Drafting


class PromptLookup(Drafting):
    """No second model; gains where answers repeat words of the question or of themselves."""

    def __init__(self, *, kind: str, order: int, num_tokens: int, ngram: int) -> None:
        super().__init__(kind=kind, order=order)
        self.num_tokens, self.ngram = num_tokens, ngram

    def apply(self, loaded: LoadedModel) -> None:
        super().apply(loaded)
        loaded.drafting = {
            "prompt_lookup_num_tokens": self.num_tokens,
            "max_matching_ngram_size": self.ngram,
        }


OPTIMIZATION = PromptLookup
