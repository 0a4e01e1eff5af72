"""The library's processor of any checkpoint, for pictures and text alone.

Many processors have halves for video or sound, whose libraries need not be installed. They are
loaded here without those halves, and with the image processor that works on PIL pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from transformers import AutoImageProcessor, FuyuImageProcessorPil
from transformers.models.auto.processing_auto import (
    PROCESSOR_MAPPING_NAMES,
    processor_class_from_name,
)
from transformers.utils import cached_file, is_torchvision_available

from profiling.errors import ConfigError, Unsupported, shorten
from profiling.files import LARGEST_SETTINGS, read_json
from profiling.models.fuyu.processing import FuyuImages

# Image processors of the library with an error in them, and what is right.
_CORRECTED = {FuyuImageProcessorPil: FuyuImages}
# Where a checkpoint says which processor it has, in the library's order.
_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


class MissingHalf:
    """In the place of a processor's half for video or sound: every setting of it is unset."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def load_processor(place: str, model_type: str, options: Mapping[str, Any]) -> Any:
    """The processor of a folder or a hub id; one line where there is none for pictures."""
    name = _find_name(place, model_type, options)
    try:
        return pictures_only(find_class(name)).from_pretrained(place, **options)
    except ImportError as error:
        raise Unsupported(f"model=auto: {name} needs another package: {_tell(error)}") from error
    except OSError as error:
        if not options.get("local_files_only"):
            # What the hub said, which its caller explains.
            raise
        raise ConfigError("model.checkpoint", place, f"{name}: {_tell(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        told = f"{name} cannot be loaded: {type(error).__name__}: {_tell(error)}"
        raise ConfigError("model.checkpoint", place, told) from error


def _tell(error: Exception) -> str:
    return shorten(" ".join(str(error).split()))


def _find_name(place: str, model_type: str, options: Mapping[str, Any]) -> str:
    """The class that the checkpoint names, else the one that is usual for its model type."""
    for file in _FILES:
        found = cached_file(place, file, _raise_exceptions_for_missing_entries=False, **options)
        named = None if found is None else _read(place, file, found).get("processor_class")
        if isinstance(named, str) and _is_known(named):
            return named
    usual = PROCESSOR_MAPPING_NAMES.get(model_type)
    if usual is None:
        told = f"the library has no processor for model_type {model_type}"
        raise ConfigError("model.checkpoint", place, told)
    return str(usual)


def _read(place: str, file: str, found: str) -> dict[str, Any]:
    try:
        content = read_json(found, at_most=LARGEST_SETTINGS)
    except (OSError, ValueError) as error:
        told = f"{file} cannot be read: {_tell(error)}"
        raise ConfigError("model.checkpoint", place, told) from None
    if not isinstance(content, dict):
        raise ConfigError("model.checkpoint", place, f"{file} is not an object")
    return content


def _is_known(name: str) -> bool:
    """Whether the library has a class of that name, and not the checkpoint alone."""
    _provide_missing()
    return processor_class_from_name(name) is not None


@cache
def find_class(name: str) -> Any:
    """A processor class by its name, also where the library shows a placeholder for it."""
    _provide_missing()
    found = processor_class_from_name(name)
    try:
        found.get_attributes()
    except ImportError:
        stem = name.removesuffix("Processor").lower()
        found = getattr(import_module(f"transformers.models.{stem}.processing_{stem}"), name)
    return found


def _provide_missing() -> None:
    """What two processors ask for when they are imported or made, and use for no picture."""
    pixtral = "transformers.models.pixtral"
    name = f"{pixtral}.image_processing_pixtral"
    if not is_torchvision_available() and name not in sys.modules:
        # One function of a module that imports torchvision; the same is in its twin for PIL.
        twin = import_module(f"{pixtral}.image_processing_pil_pixtral")
        module = ModuleType(name)
        module.__spec__ = twin.__spec__
        vars(module)["get_resize_output_image_size"] = twin.get_resize_output_image_size
        sys.modules[name] = module
    smolvlm: Any = import_module("transformers.models.smolvlm.processing_smolvlm")
    if smolvlm.num2words is None:
        # It writes out the times of a video's frames.
        smolvlm.num2words = str


def _load_images(place: str, options: Mapping[str, Any]) -> Any:
    found = AutoImageProcessor.from_pretrained(place, backend="pil", **options)
    corrected = _CORRECTED.get(type(found))
    return found if corrected is None else corrected.from_pretrained(place, **options)


@cache
def pictures_only(whole: Any) -> Any:
    """A processor class whose halves for video and sound are missing."""

    class PicturesOnly(whole):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> Any:
            return whole.get_attributes()

        def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
            if isinstance(argument, MissingHalf):
                return None
            return super().check_argument_for_proper_class(name, argument)

        @classmethod
        def _get_arguments_from_pretrained(
            cls, place: str, processor_dict: Any = None, **options: Any
        ) -> list[Any]:
            options.pop("subfolder", None)
            return [cls._load_part(name, place, options) for name in cls.get_attributes()]

        @classmethod
        def _load_part(cls, name: str, place: str, options: Mapping[str, Any]) -> Any:
            # Never the code of a repository.
            options = {**options, "trust_remote_code": False}
            if "tokenizer" in name:
                return cls._load_tokenizer_from_pretrained(name, place, subfolder="", **options)
            if name == "image_processor":
                return _load_images(place, options)
            return MissingHalf()

        def __repr__(self) -> str:
            # The library's own writes every half as JSON.
            return whole.__name__  # type: ignore[no-any-return]

    # The library compares names of classes.
    PicturesOnly.__name__ = PicturesOnly.__qualname__ = whole.__name__
    return PicturesOnly
