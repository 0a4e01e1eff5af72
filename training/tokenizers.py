"""Small vocabularies that encode any text: words, and bytes or characters for the rest."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from training import lexicon

_SPACE = "▁"


def build_byte_level(
    *, special: list[str], template: str | None, **names: Any
) -> PreTrainedTokenizerFast:
    """Words with and without a leading space; everything else is encoded as bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spaced = ["Ġ" + word for word in lexicon.words()]
    pieces = [*special, *alphabet, *lexicon.words(), *spaced, "Ġa", "Ġ("]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    if template is not None:
        tokenizer.post_processor = _follow(tokenizer, template)
    return _wrap(tokenizer, names)


def build_unigram(*, special: list[str], **names: Any) -> PreTrainedTokenizerFast:
    """No added tokens: Fuyu's processor needs its special pieces as ordinary ones."""
    characters = sorted(set(lexicon.CHARACTERS + lexicon.CHARACTERS.lower() + "\n?.,:;()'\"!-|<>_"))
    words = [_SPACE + word for word in [*lexicon.words(), "a", "("]]
    scores = {piece: 0.0 for piece in special} | {_SPACE: -2.0}
    scores |= {character: -8.0 for character in characters} | {word: -4.0 for word in words}
    scores |= {f"<0x{byte:02X}>": -30.0 for byte in range(256)} | {"<0x04>": 0.0}
    vocabulary = list(scores.items())
    unknown = special.index(names["unk_token"])
    model = models.Unigram(vocab=vocabulary, unk_id=unknown, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _wrap(tokenizer, names)


def _follow(tokenizer: Tokenizer, template: str) -> TemplateProcessing:
    pieces = [piece for piece in template.split() if piece != "$A"]
    ids = [(piece, tokenizer.token_to_id(piece)) for piece in pieces]
    return TemplateProcessing(single=template, special_tokens=ids)


def _wrap(tokenizer: Tokenizer, names: dict[str, Any]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )
