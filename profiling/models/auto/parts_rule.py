"""Where the parts of any image-text-to-text network are, by the library's own names.

`find_parts` asks the library for decoder, head and image encoder, and goes by names where it does
not tell. `narrow` keeps of them what a pass over a picture calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from profiling.errors import Unsupported
from profiling.models.network import Parts

_PIXELS = ("pixel_values", "flattened_patches")
# What vision parts are called where `get_encoder("image")` does not name one.
_VISION = frozenset(
    {"vision_tower", "visual", "vision_model", "vision_encoder", "image_encoder", "image_tower"}
    | {"vision_embed_tokens", "vision_embedder"}
)
# More of a vision part beside the first one: a second tower.
_TOWERS = ("vision_tower", "vision_model")
# A projector inside of a vision part.
_INNER = ("merger", "connector", "projector", "aligner", "adapter")
# A projector inside of what the vision part lies in, among layers that are none.
_LINKS = ("proj", "connect", "align", "merger")
_NOT_PICTURES = (
    *("audio", "speech", "sound", "video", "protein"),
    *("generation", "vqmodel", "embed_tokens"),
)


def is_within(path: str, outer: str) -> bool:
    """Whether a module is another one or lies in it; everything lies in the network itself."""
    return not outer or f"{path}.".startswith(f"{outer}.")


def find_parts(network: Any) -> Parts:
    """The parts by name alone; Unsupported where one is missing."""
    paths = {id(module): name for name, module in network.named_modules()}
    language = _require("decoder", paths.get(id(network.get_decoder()), ""))
    head = _require("head", _find_head(network, paths))
    text_encoder = _find_text_encoder(network, paths)
    kept = [language, *([text_encoder] if text_encoder else [])]
    vision = _require("vision part", _find_vision(network, paths, kept))
    towers, links = _look_around(network, vision, head, kept)
    inside = [
        f"{vision}.{name}"
        for name, child in network.get_submodule(vision).named_children()
        if any(word in name.lower() for word in _INNER) and _has_values(child)
    ]
    return Parts(
        vision=vision,
        more_vision=tuple(towers),
        projector=(*inside, *links),
        language=language,
        head=head,
        text_encoder=text_encoder,
    )


def _require(part: str, path: str) -> str:
    if not path:
        raise Unsupported(f"model=auto finds no {part} in this network by the library's names")
    return path


def _find_head(network: Any, paths: dict[int, str]) -> str:
    """The network's own output embeddings, or those of the first network inside that has some."""
    inner = (module for module in network.modules() if isinstance(module, PreTrainedModel))
    heads = (owner.get_output_embeddings() for owner in (network, *inner))
    return next((paths[id(head)] for head in heads if id(head) in paths), "")


def _find_text_encoder(network: Any, paths: dict[int, str]) -> str | None:
    if not network.config.is_encoder_decoder:
        return None
    encoder = network.get_encoder()
    return None if _takes_pixels(encoder) else paths.get(id(encoder)) or None


def _find_vision(network: Any, paths: dict[int, str], kept: Sequence[str]) -> str:
    """The first candidate that holds no text part, the outermost of each kind first."""
    asked = [paths.get(id(network.get_encoder("image")), "")]
    modules = [(name, module) for name, module in network.named_modules() if name]
    named = [name for name, _ in modules if name.rpartition(".")[2] in _VISION]
    taking = [name for name, module in modules if _takes_pixels(module)]
    candidates = [*asked, *sorted(named, key=len), *sorted(taking, key=len)]
    fitting = (c for c in candidates if c and not any(is_within(part, c) for part in kept))
    return next(fitting, "")


def _takes_pixels(module: nn.Module) -> bool:
    return isinstance(module, PreTrainedModel) and module.main_input_name in _PIXELS


def _look_around(
    network: Any, vision: str, head: str, kept: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Further towers, and what stands beside the vision part or its holder and has values."""
    parent = vision.rpartition(".")[0]
    holders = dict.fromkeys((parent, parent.rpartition(".")[0]))
    # The text part that the vision part lies in is no neighbour of it.
    around = [part for part in kept if is_within(vision, part)]
    taken = [vision, head, *(part for part in kept if part not in around)]
    towers: list[str] = []
    links: list[str] = []
    for path, child in _children(network, holders):
        name = path.rpartition(".")[2]
        if any(is_within(path, t) or is_within(t, path) for t in (*taken, *towers, *links)):
            continue
        if not _has_values(child) or child is network.get_input_embeddings():
            continue
        layer = any(is_within(path, part) for part in around)
        if any(w in name for w in _NOT_PICTURES) or (layer and not any(w in name for w in _LINKS)):
            continue
        (towers if any(word in name for word in _TOWERS) else links).append(path)
    return towers, links


def _children(network: Any, holders: Iterable[str]) -> Iterator[tuple[str, nn.Module]]:
    for holder in holders:
        for name, child in network.get_submodule(holder).named_children():
            yield f"{holder}.{name}".removeprefix("."), child


def _has_values(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def narrow(parts: Parts, entered: Iterable[str]) -> Parts:
    """The parts without what a pass never called, by the paths that it entered in their order.

    In the place of a module that only holds others stand those of them that were called.
    """
    order = list(dict.fromkeys(entered))
    vision = [path for part in (parts.vision, *parts.more_vision) for path in _called(part, order)]
    if not vision:
        raise Unsupported(f"the vision part {parts.vision} is never called for a picture")
    if parts.head not in order:
        raise Unsupported(f"the head {parts.head} is never called")
    return Parts(
        vision=vision[0],
        more_vision=tuple(vision[1:]),
        projector=tuple(path for part in parts.projector for path in _called(part, order)),
        language=_narrow_language(parts, order),
        head=parts.head,
        text_encoder=_narrow_encoder(parts, order),
    )


def _narrow_language(parts: Parts, order: Sequence[str]) -> str:
    called = _called(parts.language, order)
    if parts.text_encoder is not None and len(called) > 1:
        called = [path for path in called if not is_within(path, parts.text_encoder)]
    if len(called) > 1:
        # What embeds the tokens of encoder and decoder is called by itself.
        called = [path for path in called if path.endswith("decoder")] or called
    if len(called) != 1:
        found = f"{len(called)} modules of it are" if called else "it is never"
        raise Unsupported(f"the decoder {parts.language} is no module of its own: {found} called")
    return called[0]


def _narrow_encoder(parts: Parts, order: Sequence[str]) -> str | None:
    if parts.text_encoder is None:
        return None
    if parts.text_encoder not in order:
        raise Unsupported(f"the text encoder {parts.text_encoder} is never called")
    return parts.text_encoder


def _called(path: str, order: Sequence[str]) -> list[str]:
    """The module where it was called, else the outermost called modules inside of it."""
    if path in order:
        return [path]
    within = [name for name in order if is_within(name, path)]
    return [n for n in within if not any(is_within(n, o) and n != o for o in within)]
