"""Folders written exactly as the public checkpoints are, with small values, load and answer alike.

What a folder holds follows the files on the hub: old names of tensors, the shards' names, values
of the text model where each family has them, `torch_dtype`, and tokenizer files of older libraries.
"""

from __future__ import annotations

import json
import re
import shutil
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from profiling.errors import ConfigError
from profiling.models.loading import find_family, read_config
from profiling.models.model import Model, Prepared
from profiling.models.weights import CHECKPOINTS, locate
from tests.composing import compose_point
from tests.marking import slow_except
from tests.tiny_models import FAMILIES, answer, ask, build, make_picture

SIDE = 120
NEWER_KEYS = ("dtype", "transformers_version")
# What the library's older versions wrote beside tokenizer.json; nothing here needs to read it.
SENTENCEPIECE = b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02"


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def set_rope(values: dict[str, Any]) -> None:
    """Rotary settings as older versions of the library wrote them."""
    rope = values.pop("rope_parameters", {})
    values.update(
        {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    )
    if "mrope_section" in rope:
        values["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}


def flatten(config: dict[str, Any]) -> None:
    """The text model's values at the top level."""
    text = config.pop("text_config")
    del text["model_type"]
    set_rope(text)
    text.pop("layer_types", None)
    for key, value in text.items():
        config.setdefault(key, value)
    config["tie_word_embeddings"] = bool(config.get("tie_word_embeddings"))


def write_qwen_config(config: dict[str, Any]) -> None:
    flatten(config)
    vision = config["vision_config"]
    del vision["model_type"], vision["rope_parameters"], vision["initializer_range"]
    vision["in_chans"] = vision.pop("in_channels")
    vision["spatial_patch_size"] = vision["patch_size"]
    config["vision_token_id"] = config["vision_end_token_id"]


def write_fuyu_config(config: dict[str, Any]) -> None:
    flatten(config)
    config["rope_scaling"] = None
    # With no value in it, as on the hub.
    config["text_config"] = {"model_type": "persimmon"}


def write_llava_config(config: dict[str, Any]) -> None:
    set_rope(config["text_config"])
    config["text_config"] |= {"_name_or_path": "lmsys/vicuna-7b-v1.5", "torch_dtype": "float16"}
    config["ignore_index"] = -100
    del config["image_seq_length"], config["multimodal_projector_bias"]


def write_blip2_config(config: dict[str, Any]) -> None:
    config["text_config"]["torch_dtype"] = "float32"
    config["vision_config"]["dropout"] = 0.0
    config["qformer_config"]["classifier_dropout"] = None


def old_qwen_name(name: str) -> str:
    name = re.sub(r"^model\.visual\.", "visual.", name)
    return re.sub(r"^model\.language_model\.", "model.", name)


def old_name(name: str) -> str:
    """Names of families whose decoder was a whole model inside the network."""
    name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    return re.sub(r"^model\.(vision|multi_modal)", r"\1", name)


def old_llava_name(name: str) -> str:
    return re.sub(
        r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", old_name(name)
    )


def same_name(name: str) -> str:
    return name


def with_opt_copies(tensors: dict[str, Tensor]) -> None:
    embedding = tensors["language_model.model.decoder.embed_tokens.weight"]
    tensors["language_model.lm_head.weight"] = embedding.clone()


def with_t5_copies(tensors: dict[str, Tensor]) -> None:
    for side in ("encoder", "decoder"):
        shared = tensors["language_model.shared.weight"]
        tensors[f"language_model.{side}.embed_tokens.weight"] = shared.clone()


def without_copies(tensors: dict[str, Tensor]) -> None:
    """The file holds every tensor once."""


WORDS = ("what", "\u0120does", "\u0120the", "\u0120sign", "\u0120say", "Question", "\u0120Answer")
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def keep_pieces(_: dict[str, Any]) -> None:
    """The library takes this family's tokenizer as it is written."""


def make_merges(stored: dict[str, Any]) -> None:
    """Bytes and merges instead of the whole words of the small tokenizer."""
    model, special = stored["model"], {token["content"] for token in stored["added_tokens"]}
    kept = {p: at for p, at in model["vocab"].items() if len(p) == 1 or p in special}
    free = sorted(set(model["vocab"].values()) - set(kept.values()))
    # Words first; what is left over goes to pairs of letters.
    steps = [(word[:end], word[end]) for word in WORDS for end in range(1, len(word))]
    steps += [(one, other) for one in string.ascii_uppercase for other in string.digits]
    merges = list(dict.fromkeys(steps))[: len(free)]
    model["vocab"] = kept | {a + b: at for (a, b), at in zip(merges, free, strict=True)}
    model["merges"] = [f"{one} {other}" for one, other in merges]
    model["ignore_merges"] = False


def make_qwen_merges(stored: dict[str, Any]) -> None:
    make_merges(stored)
    stored["normalizer"] = {"type": "NFC"}
    split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated"}
    in_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    stored["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{**split, "invert": False}, {**in_bytes, "use_regex": False}],
    }


def make_unigram(stored: dict[str, Any]) -> None:
    """Pieces with a score each, blanks written as a low line, and spare tokens at the end."""
    size, spare = len(stored["model"]["vocab"]), 100
    specials = sorted((t for t in stored["added_tokens"] if t["id"] < size), key=lambda t: t["id"])
    pieces = [token["content"] for token in specials]
    pieces += ["\u2581", *map(chr, range(33, 127)), "\u2581the", "\u2581sign", "\u2581say"]
    pieces += [f"\u2581{number}" for number in range(size - spare - len(pieces))]
    pieces += [f"<extra_id_{number}>" for number in reversed(range(spare))]
    scored = [[piece, -float(len(specials) < at)] for at, piece in enumerate(pieces)]
    unknown = pieces.index("<unk>")
    stored["model"] = {"type": "Unigram", "unk_id": unknown, "vocab": scored}
    blanks = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
    stored["normalizer"] = None
    stored["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, {**blanks, "split": True}],
    }
    stored["decoder"] = {**blanks, "split": True}
    spares = range(size - spare, size)
    stored["added_tokens"] += [{**specials[0], "id": at, "content": pieces[at]} for at in spares]
    stored["added_tokens"].sort(key=lambda token: token["id"])


CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
BLIP_PICTURES = {
    **CLIP,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_processor_type": "BlipImageProcessor",
    "processor_class": "Blip2Processor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"height": 112, "width": 112},
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one family's public checkpoint is written."""

    shards: int
    dtype: str
    write_config: Callable[[dict[str, Any]], None]
    rename: Callable[[str], str]
    add_copies: Callable[[dict[str, Tensor]], None]
    pictures: dict[str, Any]
    tokenizer_class: str
    pieces: Callable[[dict[str, Any]], None]
    sentencepiece: str | None
    template: bool
    sampling: dict[str, Any] = field(default_factory=dict)


LAYOUTS = {
    "qwen25vl": Layout(
        shards=2,
        dtype="bfloat16",
        write_config=write_qwen_config,
        rename=old_qwen_name,
        add_copies=without_copies,
        pictures={
            **CLIP,
            "min_pixels": 3136,
            "max_pixels": 12845056,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
        },
        tokenizer_class="Qwen2Tokenizer",
        pieces=make_qwen_merges,
        sentencepiece=None,
        template=True,
        sampling={"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.1, "top_k": 1},
    ),
    "llava": Layout(
        shards=3,
        dtype="float16",
        write_config=write_llava_config,
        rename=old_llava_name,
        add_copies=without_copies,
        pictures={
            **CLIP,
            "crop_size": {"height": 112, "width": 112},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": 112},
        },
        tokenizer_class="LlamaTokenizer",
        pieces=keep_pieces,
        sentencepiece="tokenizer.model",
        template=True,
    ),
    "fuyu": Layout(
        shards=2,
        dtype="bfloat16",
        write_config=write_fuyu_config,
        rename=old_name,
        add_copies=without_copies,
        pictures={
            "image_processor_type": "FuyuImageProcessor",
            "padding_mode": "constant",
            "padding_value": 1.0,
            "processor_class": "FuyuProcessor",
            "target_height": 1080,
            "target_width": 1920,
        },
        tokenizer_class="LlamaTokenizer",
        pieces=keep_pieces,
        sentencepiece="tokenizer.model",
        template=False,
    ),
    "blip2_opt": Layout(
        shards=2,
        dtype="float32",
        write_config=write_blip2_config,
        rename=same_name,
        add_copies=with_opt_copies,
        pictures=BLIP_PICTURES,
        tokenizer_class="GPT2Tokenizer",
        pieces=make_merges,
        sentencepiece=None,
        template=False,
    ),
    "blip2_t5": Layout(
        shards=2,
        dtype="float32",
        write_config=write_blip2_config,
        rename=same_name,
        add_copies=with_t5_copies,
        pictures=BLIP_PICTURES,
        tokenizer_class="T5TokenizerFast",
        pieces=make_unigram,
        sentencepiece="spiece.model",
        template=False,
    ),
}


def write_public(folder: Path, family: str) -> Path:
    """A small checkpoint in the files, names and shapes of the public one."""
    layout, tiny = LAYOUTS[family], CHECKPOINTS / "tiny" / family
    folder.mkdir(parents=True)
    config = read_json(tiny / "config.json")
    layout.write_config(config)
    for key in NEWER_KEYS:
        config.pop(key, None)
    write_json(
        folder / "config.json",
        {**config, "torch_dtype": layout.dtype, "transformers_version": "4.41.2"},
    )
    write_json(folder / "preprocessor_config.json", layout.pictures)
    write_generation(tiny, folder, layout.sampling)
    write_tokenizer(tiny, folder, layout)
    write_shards(tiny, folder, layout)
    return folder


def write_generation(tiny: Path, folder: Path, sampling: dict[str, Any]) -> None:
    values = read_json(tiny / "generation_config.json")
    kept = {key: value for key, value in values.items() if key.endswith("_token_id")}
    write_json(folder / "generation_config.json", {**kept, **sampling})


def write_tokenizer(tiny: Path, folder: Path, layout: Layout) -> None:
    stored = read_json(tiny / "tokenizer.json")
    layout.pieces(stored)
    write_json(folder / "tokenizer.json", stored)
    added = {token["content"]: token["id"] for token in stored["added_tokens"]}
    write_json(folder / "added_tokens.json", added)
    settings = read_json(tiny / "tokenizer_config.json")
    specials = {k: v for k, v in settings.items() if re.fullmatch(r"(bos|eos|pad|unk)_token", k)}
    write_json(folder / "special_tokens_map.json", specials)
    decoder = {
        str(token["id"]): {key: token[key] for key in token if key != "id"}
        for token in stored["added_tokens"]
    }
    written = {
        **specials,
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
        "tokenizer_class": layout.tokenizer_class,
        "processor_class": layout.pictures["processor_class"],
    }
    if layout.template:
        template = (tiny / "chat_template.jinja").read_text(encoding="utf-8")
        write_json(folder / "chat_template.json", {"chat_template": template})
        written["chat_template"] = template
    write_json(folder / "tokenizer_config.json", written)
    if layout.sentencepiece:
        (folder / layout.sentencepiece).write_bytes(SENTENCEPIECE)


def write_shards(tiny: Path, folder: Path, layout: Layout) -> None:
    stored = load_file(tiny / "model.safetensors")
    dtype = getattr(torch, layout.dtype)
    tensors = {layout.rename(name): value.to(dtype) for name, value in stored.items()}
    layout.add_copies(tensors)
    names, weight_map = list(tensors), {}
    for number in range(layout.shards):
        shard = f"model-{number + 1:05}-of-{layout.shards:05}.safetensors"
        part = {name: tensors[name].contiguous() for name in names[number :: layout.shards]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def write_plain(folder: Path, public: Path) -> Path:
    """The same values in the library's present format, the tokenizer taken as it is written."""
    family = public.name
    shutil.copytree(CHECKPOINTS / "tiny" / family, folder)
    for name in ("tokenizer.json", "generation_config.json"):
        shutil.copy(public / name, folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "dtype": LAYOUTS[family].dtype})
    return folder


def load(folder: Path, family: str) -> Model:
    return build(
        compose_point(f"model={family}", "weights=pretrained", f"model.checkpoint={folder}")
    ).model


def ask_two(model: Model) -> list[Prepared]:
    return [
        ask(model, question, make_picture(90, 120, seed=seed))
        for seed, question in enumerate(("what does the sign say?", "describe the image: a (1)"))
    ]


@pytest.fixture(scope="module", params=slow_except(FAMILIES, "blip2_t5", "qwen25vl"))
def public(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_public(tmp_path_factory.mktemp("public") / request.param, request.param)


def test_a_public_folder_answers_as_the_plain_one_does(public: Path, tmp_path: Path) -> None:
    family = public.name
    model, plain = load(public, family), load(write_plain(tmp_path / family, public), family)
    assert model.dtype == plain.dtype == getattr(torch, LAYOUTS[family].dtype)
    for one, other in zip(ask_two(model), ask_two(plain), strict=True):
        assert one.prompt == other.prompt
    stored = plain.network.state_dict()
    loaded = model.network.state_dict()
    assert loaded.keys() == stored.keys()
    assert [name for name in stored if not torch.equal(stored[name], loaded[name])] == []
    assert answer(model, ask_two(model), SIDE) == answer(plain, ask_two(plain), SIDE)


def test_nothing_of_older_libraries_is_needed(public: Path, tmp_path: Path) -> None:
    family = public.name
    folder = tmp_path / family
    shutil.copytree(public, folder)
    legacy = ("tokenizer.model", "spiece.model", "added_tokens.json", "special_tokens_map.json")
    for name in legacy:
        (folder / name).unlink(missing_ok=True)
    config = read_json(folder / "config.json")
    point = compose_point(f"model={family}", "weights=pretrained", f"model.checkpoint={folder}")
    options = locate(point).options
    kind = find_family(family)
    built = [
        kind.load(
            config=read_config(kind.layout.network_class.config_class, str(place), options),
            folder=str(place),
            processor_options=options,
        ).processing
        for place in (folder, public)
    ]
    text = built[0].render("what does the sign say?")
    assert built[0].tokenizer(text)["input_ids"] == built[1].tokenizer(text)["input_ids"]
    assert config["torch_dtype"] == LAYOUTS[family].dtype


def test_each_shard_that_is_missing_is_named_before_any_is_read(
    public: Path, tmp_path: Path
) -> None:
    family = public.name
    last = sorted(public.glob("model-*.safetensors"))[-1].name
    folder = tmp_path / family
    shutil.copytree(public, folder)
    (folder / last).unlink()
    with pytest.raises(ConfigError, match=f"there is no {last} in it"):
        locate(compose_point(f"model={family}", "weights=pretrained", f"model.checkpoint={folder}"))


def test_settings_for_pictures_that_are_missing_are_named(public: Path, tmp_path: Path) -> None:
    folder = tmp_path / public.name
    shutil.copytree(public, folder)
    (folder / "preprocessor_config.json").unlink()
    point = compose_point(
        f"model={public.name}", "weights=pretrained", f"model.checkpoint={folder}"
    )
    with pytest.raises(ConfigError, match=r"there is no preprocessor_config\.json in it"):
        locate(point)


@pytest.mark.parametrize("asked", FAMILIES)
def test_a_public_folder_of_another_family_is_named(public: Path, asked: str) -> None:
    point = compose_point(f"model={asked}", "weights=pretrained", f"model.checkpoint={public}")
    if asked == public.name:
        assert locate(point).config == str(public)
        return
    with pytest.raises(ConfigError, match=rf"model_type .*; {asked} is"):
        locate(point)


# The text of the public files, as far as it says what the network is.
PUBLIC_CONFIGS: dict[str, dict[str, Any]] = {
    "llava": {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": 32000,
        "model_type": "llava",
        "pad_token_id": 32001,
        "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5",
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "rms_norm_eps": 1e-05,
            "torch_dtype": "float16",
            "vocab_size": 32064,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_config": {
            "hidden_size": 1024,
            "image_size": 336,
            "intermediate_size": 4096,
            "model_type": "clip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
            "projection_dim": 768,
            "vocab_size": 32000,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    },
    "fuyu": {
        "architectures": ["FuyuForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 71013,
        "hidden_act": "relu2",
        "hidden_dropout": 0.0,
        "hidden_size": 4096,
        "image_size": 300,
        "initializer_range": 0.02,
        "intermediate_size": 16384,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 16384,
        "model_type": "fuyu",
        "num_attention_heads": 64,
        "num_channels": 3,
        "num_hidden_layers": 36,
        "partial_rotary_factor": 0.5,
        "patch_size": 30,
        "qk_layernorm": True,
        "rope_scaling": None,
        "rope_theta": 25000.0,
        "text_config": {"model_type": "persimmon"},
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": 262144,
    },
}
SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "rope_parameters",
)


@pytest.mark.parametrize("family", PUBLIC_CONFIGS)
def test_the_public_configuration_is_the_one_that_random_values_fill(
    family: str, tmp_path: Path
) -> None:
    write_json(tmp_path / "config.json", PUBLIC_CONFIGS[family])
    kind = find_family(family).layout.network_class.config_class
    public, own = (
        read_config(kind, str(folder), {"local_files_only": True})
        for folder in (tmp_path, CHECKPOINTS / "public" / family)
    )
    for key in SHAPE:
        assert getattr(public.text_config, key) == getattr(own.text_config, key), key
    assert public.dtype == own.dtype
    assert public.tie_word_embeddings == own.tie_word_embeddings
    assert find_family(family).name == family
