"""A bounded cache of picture embeddings."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from profiling.models.family import Family
from profiling.models.stand_ins import VisionReplacement


class PictureCache:
    """Embeddings by the content of a picture; the least recently used entry is evicted."""

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.forget()

    def forget(self) -> None:
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self.num_bytes = self.hits = self.lookups = 0

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Around passes that no user would make: their look-ups are not counted."""
        before = self.hits, self.lookups
        yield
        self.hits, self.lookups = before

    def find(self, key: bytes) -> Tensor | None:
        self.lookups += 1
        found = self._kept.get(key)
        if found is not None:
            self.hits += 1
            self._kept.move_to_end(key)
        return found

    def keep(self, key: bytes, embeddings: Tensor) -> None:
        if key in self._kept or embeddings.nbytes > self.max_bytes:
            return
        self._kept[key] = embeddings
        self.num_bytes += embeddings.nbytes
        while self.num_bytes > self.max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.num_bytes -= dropped.nbytes


class CachedVision(VisionReplacement):
    """Replaces a vision part: encodes only pictures that are not in the cache."""

    def __init__(
        self, *, family: Family, encoder: nn.Module, stand_in: Any, cache: PictureCache
    ) -> None:
        super().__init__(stand_in)
        self.family, self.cache, self.encoder = family, cache, encoder

    @torch.compiler.disable
    def forward(self, given: Tensor | None = None, **named: Any) -> Any:
        pixels: Tensor = named["pixel_values"] if given is None else given
        pictures = self.family.layout.split_pictures(pixels, named)
        keys = [_key(picture) for picture in pictures]
        found = {key: self.cache.find(key) for key in keys}
        unseen = {key: p for key, p in zip(keys, pictures, strict=True) if found[key] is None}
        for key, embeddings in zip(unseen, self._look(list(unseen.values())), strict=True):
            # A copy: a view would keep the embeddings of the whole batch alive.
            found[key] = kept = embeddings.clone()
            self.cache.keep(key, kept)
        rows = [found[key] for key in keys]
        embedded = torch.cat([row for row in rows if row is not None])
        return self.stand_in(self.family.layout.group_by_picture(embedded, len(pictures)))

    def _look(self, pictures: list[dict[str, Tensor]]) -> list[Tensor]:
        if not pictures:
            return []
        together = {name: torch.cat([p[name] for p in pictures]) for name in pictures[0]}
        embeddings = self.family.layout.embed(self.encoder, together)
        return self.family.layout.split_embeddings(embeddings, pictures)


def _key(picture: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(picture):
        value = picture[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.view(torch.uint8).numpy().data)
    return digest.digest()


def without_language(network: nn.Module, family: Family) -> nn.Module:
    """A copy of the network without its language model; the other modules are shared."""
    encoder = _shallow(network)
    for path in (*family.layout.language_paths, *family.layout.vision_paths):
        holder: Any = encoder
        *parents, name = path.split(".")
        for parent in parents:
            child = _shallow(holder.get_submodule(parent))
            holder._modules[parent] = child
            holder = child
        if path in family.layout.language_paths:
            holder._modules[name] = nn.Module()
    return encoder


def _shallow(module: nn.Module) -> nn.Module:
    copied = copy.copy(module)
    vars(copied)["_modules"] = dict(module._modules)
    vars(copied)["_parameters"] = dict(module._parameters)
    return copied
