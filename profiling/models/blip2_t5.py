"""BLIP-2 with a flan-T5: its text encoder reads the picture and the prompt, its decoder answers."""

from __future__ import annotations

from profiling.models.blip2 import Blip2
from profiling.models.family import Parts


class Blip2T5(Blip2):
    parts = Parts(
        vision="vision_model",
        projector=("qformer", "language_projection"),
        language="language_model",
        head="language_model.lm_head",
        text_encoder="language_model.encoder",
    )
    encoder_decoder = True

    def adapt_config(self) -> None:
        # The library ties every T5; flan-T5's output head has weights of its own, which its
        # config.json says through the option that the library reads as "do not scale".
        text = self.config.text_config
        text.tie_word_embeddings = text.scale_decoder_outputs

    def adapt_tokenizer(self) -> None:
        # Relative positions see padding between the picture and the prompt; behind it they do not.
        self.tokenizer.padding_side = "right"


FAMILY = Blip2T5
