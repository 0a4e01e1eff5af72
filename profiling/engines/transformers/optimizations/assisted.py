"""Tokens are drafted by a smaller model: one of its own, or the first layers of the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from profiling.engines.transformers.assistant import (
    draft_steadily,
    first_layers,
    see_pictures,
)
from profiling.engines.transformers.loaded_model import LoadedModel
from profiling.engines.transformers.optimizations.drafting import Drafting
from profiling.errors import ConfigError, Unsupported
from profiling.models.family import Family
from profiling.models.loading import read_config
from profiling.models.model import Model
from profiling.models.network import Layout
from profiling.models.weights import check_folder
from profiling.points.point import Point
from profiling.samples.hub import explained

_TOKENIZER = "tokenizer.json"
_KEY = "optimization.assisted.checkpoint"
# Their modules are not those of the assistant, which shares the others with the model.
_NOT_BESIDE = ("token_pruning", "vision_cache", "onnx_vision")


class Assisted(Drafting):
    """The assistant gets the model's embeddings of the pictures, so that they are encoded once."""

    replaces_parts = True
    uncertain = f"{Drafting.uncertain}; the assistant's forwards, weights and cache are left out"

    def __init__(
        self, *, kind: str, order: int, checkpoint: str | None, layers: int | None, num_tokens: int
    ) -> None:
        super().__init__(kind=kind, order=order)
        self.checkpoint, self.layers, self.num_tokens = checkpoint, layers, num_tokens
        self._model_name = ""

    def check_layout(self, layout: type[Layout]) -> None:
        if not layout.drafts_with_pictures:
            raise Unsupported("this family's generate hands no picture on to an assistant")

    def check_family(self, family: Family) -> None:
        whole = family.costs.decoder_stack.layers
        if self.checkpoint is None and self.layers is not None and self.layers > whole:
            raise Unsupported(f"layers={self.layers}: the decoder has {whole} layers")

    def check_point(self, point: Point) -> None:
        super().check_point(point)
        for name in _NOT_BESIDE:
            if name in point.optimization:
                raise Unsupported(f"an assistant shares parts with the model that {name} replaces")

    def check(self, point: Point) -> None:
        folder = self._folder
        if folder is not None:
            check_folder(folder, point.model)
        self._model_name = point.model

    @property
    def _folder(self) -> Path | None:
        if self.checkpoint is None:
            return None
        folder = Path(os.path.expanduser(self.checkpoint))
        return folder if folder.is_dir() else None

    def apply(self, loaded: LoadedModel) -> None:
        super().apply(loaded)
        assistant = self._cut(loaded.model) if self.checkpoint is None else self._load(loaded.model)
        draft_steadily(assistant, self.num_tokens)
        see_pictures(assistant)
        loaded.drafting = {"assistant_model": assistant}

    def _cut(self, model: Model) -> Any:
        self.check_family(model.family)
        whole = model.family.costs.decoder_stack.layers
        layers = max(1, whole // 2) if self.layers is None else self.layers
        return first_layers(model.network, model.family, layers)

    def _load(self, model: Model) -> Any:
        assert self.checkpoint is not None
        folder = self._folder
        name = self.checkpoint if folder is None else str(folder.absolute())
        options = {} if folder is None else {"local_files_only": True}
        kind = model.family.layout.network_class
        with explained("model", name, None):
            config = read_config(kind.config_class, name, options)
            self._check_alike(model, config, folder)
            assistant = kind.from_pretrained(
                name, config=config, dtype=model.dtype, use_safetensors=True, **options
            )
        assistant.to(model.device).eval().requires_grad_(False)
        model.family.layout.adapt(assistant)
        return assistant

    def _check_alike(self, model: Model, config: Any, folder: Path | None) -> None:
        """The assistant takes the model's tokens and its embeddings of pictures."""
        for name in ("vocab_size", "hidden_size"):
            own, other = (
                getattr(one.get_text_config(), name) for one in (model.network.config, config)
            )
            if own != other:
                told = f"its {name} is {other}, and the model's {own}; allowed is one that is equal"
                raise ConfigError(_KEY, self.checkpoint, told)
        if folder is not None and not _same_tokens(model, folder):
            told = f"its {_TOKENIZER} is another than the model's"
            raise ConfigError(_KEY, self.checkpoint, told)


def _same_tokens(model: Model, folder: Path) -> bool:
    own = model.family.processing.tokenizer
    other = type(own).from_pretrained(folder, local_files_only=True)
    return bool(own.get_vocab() == other.get_vocab())


OPTIMIZATION = Assisted
