"""The layout of BLIP-2's network with OPT."""

from __future__ import annotations

from typing import Any

from profiling.models.blip2.network import Blip2Layout
from profiling.models.network import Parts
from profiling.models.scaled_inputs import ScaledInput


class Blip2OptLayout(Blip2Layout):
    """The language part holds the decoder and the head."""

    parts = Parts(
        vision="vision_model",
        projector=("qformer", "language_projection"),
        language="language_model",
        head="language_model.lm_head",
        text_encoder=None,
    )

    @property
    def decoder(self) -> str:
        return "language_model.model"

    @property
    def decoder_stack(self) -> str:
        # The head calls it directly, not the module around it.
        return f"{self.decoder}.decoder"

    @property
    def longest(self) -> int | None:
        return int(self.config.text_config.max_position_embeddings)

    def scaled_inputs(self, network: Any) -> list[ScaledInput]:
        paths = self.layer_paths(f"{self.decoder_stack}.layers", network)
        return [one for path in paths for one in self._scaled_in(path)]

    def _scaled_in(self, path: str) -> list[ScaledInput]:
        text, attention = self.config.text_config, f"{path}.self_attn"
        found = [ScaledInput(before=f"{attention}.v_proj", layers=(f"{attention}.out_proj",))]
        if text.do_layer_norm_before:
            read = tuple(f"{attention}.{name}_proj" for name in "qkv")
            found += [
                ScaledInput(before=f"{path}.self_attn_layer_norm", layers=read),
                ScaledInput(before=f"{path}.final_layer_norm", layers=(f"{path}.fc1",)),
            ]
        if text.activation_function == "relu":
            found.append(ScaledInput(before=f"{path}.fc1", layers=(f"{path}.fc2",)))
        return found
