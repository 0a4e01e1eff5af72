"""The layout of any network of the library: its class and its parts are found, not listed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.auto_factory import _get_model_class
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from profiling.errors import ConfigError, Unsupported
from profiling.models.auto.parts_rule import find_parts
from profiling.models.auto.proof import compare_rows, prove_parts, prove_pictures
from profiling.models.network import Layout, Parts, force_option
from profiling.models.tower import VisionTower

_REASON = (
    "model=auto knows where the parts of a network are, and not what can stand in for them;"
    " a model with a file of its own in profiling/models can have this"
)
_INTERPOLATE = "interpolate_pos_encoding"


class AutoLayout(Layout):
    """Parts are there once a network was loaded, and right once `prove` has seen it at work."""

    whole_network: ClassVar[str | None] = _REASON
    whole_picture: ClassVar[str | None] = _REASON

    def __init__(self, *, config: Any) -> None:
        super().__init__(config=config)
        kinds = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if type(config) not in kinds:
            told = f"the library has no image-text-to-text model of type {config.model_type}"
            raise ConfigError("model.checkpoint", config.name_or_path, told)
        self.network_class = _get_model_class(config, kinds)
        self.encoder_decoder = bool(config.is_encoder_decoder)
        # Why a batch of prompts of different lengths is answered wrong; None where it is not.
        self.even_only: str | None = None
        self._proved: set[tuple[int | None, bool, int]] = set()

    @classmethod
    def read_values(cls, place: str, options: Mapping[str, Any]) -> dict[str, Any]:
        values, _ = PreTrainedConfig.get_config_dict(place, **options)
        return dict(values)

    @classmethod
    def config_class(cls, values: Mapping[str, Any], place: str) -> Any:
        kind = values.get("model_type")
        if kind not in CONFIG_MAPPING:
            told = f"config.json has model_type {kind}, which the library does not know"
            raise ConfigError("model.checkpoint", place, told)
        return CONFIG_MAPPING[kind]

    def find_parts(self, network: Any) -> Parts:
        return find_parts(network)

    def adapt(self, network: nn.Module) -> None:
        self.parts = find_parts(network)
        for module in network.modules():
            if _interpolates(module):
                force_option(module, **{_INTERPOLATE: True})

    def prove(self, model: Any, *, side: int | None, rows: int, pictures: int) -> None:
        asked = (side, rows > 1, pictures)
        if asked not in self._proved:
            self.parts = prove_parts(model, self.parts, side=side)
            if pictures > 1:
                prove_pictures(model, self.parts, side=side, count=pictures)
            if rows > 1:
                self.even_only = compare_rows(model, side=side)
            self._proved.add(asked)

    def check_batch(self, inputs: Mapping[str, Tensor]) -> None:
        lengths = inputs["attention_mask"].sum(dim=1)
        if self.even_only is not None and bool((lengths != lengths[0]).any()):
            raise Unsupported(self.even_only)

    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        raise Unsupported(_REASON)

    def tower(self, network: Any) -> VisionTower:
        raise Unsupported(_REASON)

    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        raise Unsupported(_REASON)


def _interpolates(module: nn.Module) -> bool:
    """Whether a vision part can take sizes other than its native one, if it is told to."""
    is_vision = isinstance(module, PreTrainedModel) and module.main_input_name == "pixel_values"
    return is_vision and _INTERPOLATE in inspect.signature(module.forward).parameters
