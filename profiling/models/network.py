"""The layout of a family's network: where its parts are, and how it is cut and assembled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from profiling.errors import Unsupported
from profiling.models.encoder_scores import EncoderScores
from profiling.models.scaled_inputs import ScaledInput
from profiling.models.text_parts import (
    DECODER,
    EMBEDDING,
    CacheShape,
    Decoder,
    TextPart,
    TokenEmbedding,
)
from profiling.models.tower import VisionTower


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the parts of a network are, as paths of submodules.

    The prefill is the first pass through `text_encoder` (where there is one) and `language` to the
    end of `head`; every later pass is a decode step. A projector inside the vision part counts as
    projector, not as vision.
    """

    vision: str
    projector: tuple[str, ...]
    language: str
    head: str
    text_encoder: str | None
    # Modules of the vision part beside the first one.
    more_vision: tuple[str, ...] = ()

    def modules(
        self, network: nn.Module, *, absorbed: frozenset[str] = frozenset()
    ) -> dict[str, list[nn.Module]]:
        """The modules of each part, by the part's name; none for the absorbed parts."""
        encoder = [self.text_encoder] if self.text_encoder else []
        paths = {
            "vision": [self.vision, *self.more_vision],
            "projector": list(self.projector),
            "text_encoder": encoder,
            "language": [self.language],
            "head": [self.head],
        }
        return {
            name: [] if name in absorbed else [network.get_submodule(path) for path in listed]
            for name, listed in paths.items()
        }


class Layout(ABC):
    """What is where in a family's network, and what its parts take and return."""

    parts: Parts
    network_class: type[Any]
    encoder_decoder: bool = False
    # Why no part can be replaced, cut off or exported; None where that can be done.
    whole_network: ClassVar[str | None] = None
    # What to request for flash attention; a dictionary has one entry for each sub-configuration.
    flash_attention: ClassVar[str | dict[str, str]] = "flash_attention_2"
    vision_parameters: ClassVar[tuple[str, ...]] = ()  # of the vision side, in no module
    # Why no visual token can be left out; None where that can be done.
    whole_picture: ClassVar[str | None] = None
    encoder_attends: ClassVar[bool] = False  # whether the vision part has attention to read
    # Whether its generate hands pictures on to a model that drafts tokens.
    drafts_with_pictures: ClassVar[bool] = True
    embedding_names: ClassVar[tuple[str, ...]] = ("embed_tokens.weight", "shared.weight")

    def __init__(self, *, config: Any):
        self.config = config

    @classmethod
    def read_values(cls, place: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """What config.json says at a place, as it is written."""
        values, _ = cls.network_class.config_class.get_config_dict(place, **options)
        return dict(values)

    @classmethod
    def config_class(cls, values: Mapping[str, Any], place: str) -> Any:
        """The class of the configuration whose values are in config.json at a place."""
        return cls.network_class.config_class

    # A network after loading

    def untie(self, network: Any) -> None:  # noqa: B027
        """Separate weights that the library ties and real checkpoints do not."""

    def adapt(self, network: nn.Module) -> None:  # noqa: B027
        """Prepare a loaded network for pictures of sizes other than its native one."""

    def generate_options(self, side: int) -> dict[str, Any]:
        """What `generate` needs besides the inputs, for pictures at `img_size` side."""
        return {}

    @property
    def longest(self) -> int | None:
        """The most tokens, prompt and answer, that positions were learned for; None: any number."""
        return None

    def prove(  # noqa: B027
        self, model: Any, *, side: int | None, rows: int, pictures: int
    ) -> None:
        """Raise Unsupported where the parts of a loaded model cannot be relied on.

        That may depend on the side of the pictures, on the rows of a batch, and on the most
        pictures that one of them has.
        """

    def check_batch(self, inputs: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Raise Unsupported where a batch of such inputs would not be answered as each row is."""

    def new_tokens(self, generated: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """What `generate` added: without the prompt, without the start token."""
        start = 1 if self.encoder_decoder else inputs["input_ids"].shape[1]
        return generated[:, start:]

    # Where the parts are

    def find_parts(self, network: Any) -> Parts:
        """The parts of a network that need not be the loaded one."""
        return self.parts

    @property
    def decoder(self) -> str:
        """The path of the decoder without its head."""
        return self.parts.language

    def scaled_inputs(self, network: Any) -> list[ScaledInput]:
        """Inputs of the language part's layers that a module before them can be scaled for."""
        raise Unsupported("which modules absorb the scales of this model's layers is not known")

    def layer_paths(self, stack: str, network: Any) -> list[str]:
        """The layers in a stack, by their paths."""
        return [f"{stack}.{place}" for place in range(len(network.get_submodule(stack)))]

    # The text parts as modules of plain tensors

    @property
    def decoder_stack(self) -> str:
        """The path of the module that is called with embeddings and returns hidden states."""
        return self.decoder

    @property
    def generating(self) -> str:
        """The path of the module whose `generate` has the loop; empty for the network itself."""
        return ""

    @property
    def cache_shape(self) -> CacheShape:
        text = self.config.text_config
        heads = int(text.num_attention_heads)
        return CacheShape(
            layers=int(text.num_hidden_layers),
            heads=int(getattr(text, "num_key_value_heads", None) or heads),
            width=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        )

    @property
    def position_axes(self) -> int:
        """The number of positions that a token has; 0 where positions are no input."""
        rotary = getattr(self.config.text_config, "rope_parameters", None) or {}
        return len(rotary.get("mrope_section", ())) or 1

    def text_parts(self, network: Any) -> dict[str, TextPart]:
        """The text parts by name; they share the network's weights."""
        decoder = Decoder(
            decoder=network.get_submodule(self.decoder_stack),
            head=network.get_submodule(self.parts.head),
            cache=self.cache_shape,
            width=network.get_input_embeddings().embedding_dim,
            axes=self.position_axes,
        )
        return {EMBEDDING: TokenEmbedding(network.get_input_embeddings()), DECODER: decoder}

    def picture_positions(self, token: int) -> TextPart | None:
        """Positions of a prompt whose pictures have axes of their own; None without such axes."""
        return None

    # The vision side by paths

    @property
    def vision_paths(self) -> tuple[str, ...]:
        """The vision part, and the projector where it is outside the vision part."""
        inside = self.parts.vision + "."
        outside = (path for path in self.parts.projector if not path.startswith(inside))
        return (self.parts.vision, *outside)

    @property
    def language_paths(self) -> tuple[str, ...]:
        """The language model, and its head where it is outside the language model."""
        inside = self.parts.head.startswith(self.parts.language + ".")
        return (self.parts.language,) if inside else (self.parts.language, self.parts.head)

    def part_of(self, stored_name: str) -> str:
        """The part that a tensor of a checkpoint belongs to: vision, embedding or language.

        Whether names begin with `model.` depends on the version of the library that wrote them.
        """
        bare = stored_name.removeprefix("model.")
        vision = [
            path.removeprefix("model.") for path in (*self.vision_paths, *self.vision_parameters)
        ]
        if any(bare == path or bare.startswith(path + ".") for path in vision):
            return "vision"
        return "embedding" if bare.endswith(self.embedding_names) else "language"

    # The vision side alone

    @abstractmethod
    def embed(self, network: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """The pictures' embeddings after vision part and projector: [visual tokens, width]."""

    @abstractmethod
    def tower(self, network: Any) -> VisionTower:
        """Vision part and projector as one chain of blocks that shares the network's weights."""

    def generate_text(self, network: Any, **given: Any) -> Tensor:
        """What `generate` makes of a prompt without any picture."""
        generated: Tensor = type(network).generate(network, **given)
        return generated

    @property
    def window(self) -> int | None:
        """Side of an attention window in merged patches; None where attention has no windows."""
        return None

    def vision_arguments(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the vision part is called with besides pixels for these inputs of the network."""
        return {}

    def tower_inputs(self, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tower's inputs besides pixels, from the arguments of the vision part."""
        return {}

    def read_encoder(self, network: Any) -> EncoderScores:
        """Scores of visual tokens by the vision part's attention, read at each of its calls."""
        raise Unsupported("the vision part of this family has no attention")

    # The language side alone: embeddings take the place of pixels

    @abstractmethod
    def stand_ins(self, dtype: torch.dtype) -> dict[str, nn.Module | Tensor]:
        """Replacements by path, with which a network takes embeddings in place of pixels."""

    def group_by_picture(self, embeddings: Tensor, count: int) -> Tensor:
        """Embeddings of `count` pictures in the shape that the stand-ins take."""
        return embeddings

    def with_embeddings(
        self, inputs: Mapping[str, Tensor], embeddings: Tensor
    ) -> dict[str, Tensor]:
        """The inputs with embeddings [visual tokens, width] in place of the pixels."""
        pictures = self.group_by_picture(embeddings, len(inputs["pixel_values"]))
        return {**inputs, "pixel_values": pictures}

    # One picture of a batch

    def split_pictures(
        self, pixels: Tensor, arguments: Mapping[str, Any]
    ) -> list[dict[str, Tensor]]:
        """The inputs of `embed` for each picture, from pixels and arguments of the vision part.

        One item for the whole batch where the arguments do not say where a picture ends.
        """
        return [{"pixel_values": pixels}]

    def split_embeddings(
        self, embeddings: Tensor, pictures: Sequence[Mapping[str, Tensor]]
    ) -> list[Tensor]:
        """The embeddings of each picture."""
        return list(embeddings.chunk(len(pictures)))


def force_option(module: nn.Module, **forced: Any) -> None:
    """Add a keyword argument that the callers of a module do not pass to each of its calls."""

    def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, **forced}

    module.register_forward_pre_hook(add, with_kwargs=True)
