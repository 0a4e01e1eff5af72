"""Settings of optimizations: a value that cannot be is refused before a framework is imported."""

from __future__ import annotations

import re

import pytest

from profiling.errors import ConfigError
from tests.composing import compose_point

WRONG = (
    ("awq", "bits=3"),
    ("awq", "group=8"),
    ("awq", "steps=0"),
    ("awq", "calibration=0"),
    ("awq", "rows=0"),
    ("awq", "seed=-1"),
    ("compile", "backend=fast"),
    ("compile", "mode=fast"),
    ("int4", "double=3"),
    ("int4", "engine=hqq"),
    ("int4", "double=true engine=torchao"),
    ("int8", "engine=null"),
    ("int8", "outlier_threshold=-1"),
    ("int8", "outlier_threshold=3.0 engine=torchao"),
    ("onnx_vision", "layout=double"),
    ("onnx_vision", "parts=0"),
    ("onnx_vision", "parts=true"),
    ("onnx_vision", "quantize=int3"),
    ("onnx_vision", "simplify=1"),
    ("onnx_vision", "optimize=1"),
    ("onnx_vision", "provider_options=fast"),
    ("onnx_vision", "quantize=int8 layout=half"),
    ("onnx_vision", "optimize=true layout=half"),
    ("onnx_vision", "optimize=true layout=parts"),
    ("onnx_vision", "provider=Abacus"),
    ("onnx_vision", "optimize=true provider=AzureExecutionProvider"),
    ("split", "embedding=yess"),
    ("static_cache", "cuda_graphs=1"),
    ("vision_cache", "max_bytes=0"),
    ("vision_cache", "max_bytes=1.5"),
)
RIGHT = (
    ("awq", "bits=8 group=128"),
    ("compile", "mode=null"),
    ("int4", "double=true"),
    ("int8", "outlier_threshold=0"),
    ("int8", "engine=torchao"),
    ("onnx_vision", "quantize=int4"),
    ("onnx_vision", "layout=parts parts=3"),
    ("onnx_vision", "provider_options={device_id: 0}"),
    ("onnx_vision", "provider=TensorrtExecutionProvider"),
    ("onnx_vision", "optimize=true provider=CPUExecutionProvider"),
)


def compose(name: str, settings: str) -> None:
    typed = re.findall(r"\w+=(?:\{.*?\}|\S+)", settings)
    compose_point(f"optimization={name}", *(f"optimization.{name}.{one}" for one in typed))


@pytest.mark.parametrize(("name", "settings"), WRONG)
def test_wrong_settings_name_their_key(name: str, settings: str) -> None:
    key = settings.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^optimization\.{name}\.{key}=.*: allowed"):
        compose(name, settings)


@pytest.mark.parametrize(("name", "settings"), RIGHT)
def test_what_is_allowed_is_taken(name: str, settings: str) -> None:
    compose(name, settings)
