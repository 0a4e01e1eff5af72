"""Loading a model of any family from the source of weights that a point names."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.initialization import no_init_weights

from profiling.errors import ConfigError, Unsupported, shorten
from profiling.files import LARGEST_SETTINGS, read_json
from profiling.models.family import Family, FamilyDefinition
from profiling.models.loading_report import require_complete
from profiling.models.model import Model
from profiling.models.quantization import (
    Quantization,
    QuantizedLayers,
    be_quiet,
    find_grouped,
    quantize_in_place,
    quantized_share,
    split_layers,
)
from profiling.models.quantizers import REFERENCE
from profiling.models.stored_quantization import StoredFormat, read_format
from profiling.models.weights import WeightsSource, check_model_type, locate
from profiling.points.point import Point
from profiling.samples.hub import explained

# The usual spread of an untrained transformer's weights.
_RANDOM_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """How a model is to be loaded; optimizations that act before loading change it."""

    dtype: torch.dtype | None
    options: dict[str, Any] = field(default_factory=dict)
    # Writes the same values elsewhere and returns where; a network made in memory is handed over.
    relocate: Callable[[WeightsSource, Family, Any], Path] | None = None
    quantization: Quantization | None = None
    # Paths of modules that are not quantized.
    whole: tuple[str, ...] = ()
    # Makes of a family's network class one whose networks lack parts, which are then not loaded.
    reduce: Callable[[Family], type[Any]] | None = None

    @property
    def needs_dense(self) -> str | None:
        """What of the plan takes weights that are not quantized; None where nothing does."""
        if self.quantization is not None:
            return "quantizing"
        return None if self.relocate is None else "cutting a checkpoint"

    def network_class(self, family: Family) -> type[Any]:
        return family.layout.network_class if self.reduce is None else self.reduce(family)


def find_family(name: str) -> FamilyDefinition:
    """The family in the module of the same name as the yaml."""
    family: FamilyDefinition = import_module(f"profiling.models.{name}").FAMILY
    return family


def load_model(point: Point, plan: LoadPlan) -> Model:
    """A model on its device, in evaluation mode, without gradients."""
    source = locate(point)
    family = load_family(point, source)
    device = torch.device(point.device)
    network = None
    if source.values == "random":
        dtype = plan.dtype or getattr(torch, point.public_dtype)
        plan = replace(plan, dtype=dtype)
        plain = plan if plan.relocate is None else replace(plan, options={})
        network = _random_network(family, device, dtype, point.seed, plain)
        network.generation_config = _generation_config(source, family)
    stored = _stored_format(family, source, plan)
    layers = _Layers.of(family, plan)
    if plan.relocate is not None:
        folder = plan.relocate(source, family, network)
        # Freed before it is read back, so that both are never in memory together.
        network = None
        elsewhere = replace(source, config=str(folder), options={"local_files_only": True})
        network = layers.read(family, elsewhere, device, plan)
    elif network is None:
        network = layers.read(family, source, device, plan)
    else:
        layers.quantize(network, plan)
    network.eval().requires_grad_(False)
    family.layout.adapt(network)
    return Model(
        network=network,
        family=family,
        device=device,
        # The first parameter's may be another: some are kept in single precision whatever is asked.
        dtype=network.get_input_embeddings().weight.dtype,
        stored_values=source.values == "stored",
        quantized=layers.made(network, plan.quantization) or _as_stored(network, stored),
    )


def _stored_format(family: Family, source: WeightsSource, plan: LoadPlan) -> StoredFormat | None:
    """How a checkpoint's weights are quantized; None where they are not, or none are read."""
    said = getattr(family.config, "quantization_config", None)
    if said is None or source.values != "stored":
        return None
    stored = read_format({"quantization_config": said}, source.config)
    if plan.needs_dense:
        raise Unsupported(f"{plan.needs_dense} needs weights that are not quantized already")
    return stored


def _as_stored(network: Any, stored: StoredFormat | None) -> QuantizedLayers | None:
    if stored is None:
        return None
    names = find_grouped(network)
    return QuantizedLayers(
        quantization=Quantization(bits=stored.bits, engine=REFERENCE),
        names=tuple(names),
        share=quantized_share(network, names),
        made_s=None,
        how=stored.describe(),
    )


@dataclass(kw_only=True)
class _Layers:
    """The layers that a plan quantizes, and those that it leaves out."""

    quantized: list[str]
    left_out: list[str]
    made_s: float = 0.0

    @classmethod
    def of(cls, family: Family, plan: LoadPlan) -> _Layers:
        if plan.quantization is None:
            return cls(quantized=[], left_out=[])
        be_quiet()
        named, left_out = split_layers(family, plan.quantization)
        whole = tuple(path + "." for path in plan.whole)
        left_out += [name for name in named if f"{name}.".startswith(whole)]
        quantized = [name for name in named if name not in left_out]
        return cls(quantized=quantized, left_out=left_out)

    def read(
        self, family: Family, source: WeightsSource, device: torch.device, plan: LoadPlan
    ) -> Any:
        begun = time.perf_counter()
        if plan.quantization is not None:
            dtype = plan.dtype or family.config.dtype or torch.float32
            config = plan.quantization.config(self.left_out, dtype, device)
            added = {"quantization_config": config, "device_map": {"": str(device)}}
            plan = replace(plan, options={**plan.options, **added})
        network = _stored_network(family, source, device, plan)
        self.made_s = time.perf_counter() - begun
        return network

    def quantize(self, network: Any, plan: LoadPlan) -> None:
        begun = time.perf_counter()
        if plan.quantization is not None:
            assert plan.dtype is not None
            quantize_in_place(network, self.quantized, plan.quantization, plan.dtype)
        self.made_s = time.perf_counter() - begun

    def made(self, network: Any, quantization: Quantization | None) -> QuantizedLayers | None:
        """What was quantized; None where nothing was."""
        if quantization is None or not self.quantized:
            return None
        share = quantized_share(network, self.quantized)
        return QuantizedLayers(
            quantization=quantization, names=tuple(self.quantized), share=share, made_s=self.made_s
        )


def quantized_layers(family: Family, plan: LoadPlan) -> list[str]:
    """The linear layers that a plan quantizes."""
    return _Layers.of(family, plan).quantized


def load_family(point: Point, source: WeightsSource) -> Family:
    kind = find_family(point.model)
    with _explained(source):
        # Before anything large is fetched: the library only warns of another family.
        values = kind.layout.read_values(source.config, source.options)
        check_model_type(values, point.model, source.config)
        config_class = kind.layout.config_class(values, source.config)
        with _right(source):
            config = read_config(config_class, source.config, source.options)
        if source.values == "random" and source.processor != source.config:
            _take_token_ids(config, Path(source.processor) / "config.json")
        return kind.load(
            config=config,
            folder=source.processor,
            processor_options=source.options,
            prompt=point.prompt,
        )


@contextmanager
def _right(source: WeightsSource) -> Iterator[None]:
    """Values that the library refuses as a mistake in the file, in one line."""
    refusals = import_module("huggingface_hub.errors").StrictDataclassError
    try:
        yield
    except (refusals, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"config.json is refused: {shorten(' '.join(str(error).split()))}"
        raise ConfigError("model.checkpoint", source.config, reason) from None


def read_config(config_class: Any, name: str, options: Mapping[str, Any]) -> Any:
    """What config.json says, wherever in it the values of the text model are."""
    values, _ = config_class.get_config_dict(name, **options)
    text = values.get("text_config")
    if not isinstance(text, dict) or set(text) - {"model_type"}:
        return config_class.from_pretrained(name, **options)
    # The values are at the top, where the library looks only if nothing of this name is there.
    # Otherwise its own would stand for those of the file, the base of the positions among them.
    return config_class.from_dict({key: values[key] for key in values if key != "text_config"})


def _explained(source: WeightsSource) -> AbstractContextManager[None]:
    """What fails between here and the hub as one line; nothing else, and nothing of a folder."""
    if source.options.get("local_files_only"):
        return nullcontext()
    return explained("model", source.config, source.options.get("revision"))


def _stored_network(
    family: Family, source: WeightsSource, device: torch.device, plan: LoadPlan
) -> Any:
    options = {"device_map": {"": str(device)}} if device.type != "cpu" else {}
    config = copy.deepcopy(family.config)
    if getattr(config, "quantization_config", None) is not None:
        # It imports what a checkpoint that is not quantized has no use for.
        from profiling.models.stored_layers import read_by_reference

        read_by_reference(config, source.config)
    with _explained(source):
        network, report = plan.network_class(family).from_pretrained(
            source.config,
            config=config,
            dtype=plan.dtype or "auto",
            use_safetensors=True,
            output_loading_info=True,
            # Refused below, where the message says which they are.
            ignore_mismatched_sizes=True,
            **{**options, **source.options, **plan.options},
        )
    require_complete(source.config, report)
    # One device needs no dispatch; a network that carries the map is given hooks in `generate`.
    vars(network).pop("hf_device_map", None)
    return network


def _random_network(
    family: Family, device: torch.device, dtype: torch.dtype, seed: int, plan: LoadPlan
) -> Any:
    """The architecture with random values made in place, on the device and in the dtype."""
    network = _unfilled(plan.network_class(family), family, device, dtype, plan)
    whole = network
    if plan.reduce is not None:
        whole = _unfilled(family.layout.network_class, family, torch.device("meta"), dtype, plan)
    held = dict(network.named_parameters(remove_duplicate=False))
    names = _names_by_parameter(whole)
    generator = torch.Generator(device=device).manual_seed(seed)
    with torch.no_grad():
        for module in whole.modules():
            for name, parameter in module.named_parameters(recurse=False):
                found = next((held[n] for n in names[id(parameter)] if n in held), None)
                # What a network lacks is drawn all the same: the rest is as in a whole network.
                value = torch.empty_like(parameter, device=device) if found is None else found
                _fill(module, name, value, generator)
    return network


def _unfilled(
    kind: type[Any], family: Family, device: torch.device, dtype: torch.dtype, plan: LoadPlan
) -> Any:
    with torch.device(device), no_init_weights():
        network = kind._from_config(copy.deepcopy(family.config), dtype=dtype, **plan.options)
        network.tie_weights()
        family.layout.untie(network)
        _keep_single_precision(network, dtype)
    return network


def _names_by_parameter(network: Any) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def _keep_single_precision(network: Any, dtype: torch.dtype) -> None:
    """What the library keeps in single precision when it loads a checkpoint in half."""
    kept = set(network._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        kept |= set(network._keep_in_fp32_modules or ())
    for name, parameter in network.named_parameters():
        if kept & set(name.split(".")) and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def _fill(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    is_scale = parameter.ndim == 1 and name == "weight" and "norm" in type(module).__name__.lower()
    if is_scale:
        parameter.fill_(1)
    elif name == "bias":
        parameter.zero_()
    else:
        parameter.normal_(0, _RANDOM_STD, generator=generator)


def _take_token_ids(config: Any, tiny_config: Path) -> None:
    """Special tokens as the tiny tokenizer numbers them, since it writes the prompts."""
    _copy_token_ids(config, read_json(tiny_config, at_most=LARGEST_SETTINGS))


def _copy_token_ids(config: Any, stored: dict[str, Any]) -> None:
    for key, value in stored.items():
        if isinstance(value, dict) and hasattr(config, key):
            inner = getattr(config, key)
            if not isinstance(inner, dict):
                _copy_token_ids(inner, value)
        elif key.endswith(("_token_id", "_token_index")):
            setattr(config, key, value)


def _generation_config(source: WeightsSource, family: Family) -> GenerationConfig:
    if source.processor == source.config:
        return _own_generation_config(source, family)
    config = GenerationConfig.from_pretrained(source.processor, local_files_only=True)
    if family.layout.encoder_decoder:
        config.decoder_start_token_id = family.config.text_config.decoder_start_token_id
    return config


def _own_generation_config(source: WeightsSource, family: Family) -> GenerationConfig:
    """As the checkpoint has it, else what the library makes of its configuration."""
    try:
        return GenerationConfig.from_pretrained(source.processor, **source.options)
    except OSError:
        return GenerationConfig.from_model_config(family.config)
