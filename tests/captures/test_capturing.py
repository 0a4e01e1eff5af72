"""Bounds, what is left out, and captures of one's own modules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from profiling.captures import capture
from profiling.captures.folder import Capture
from profiling.captures.replay import replay_all
from profiling.captures.tensor_files import digest_of
from profiling.errors import ConfigError
from profiling.parts.artifacts import size_bytes
from tests.captures.captured import capture_scaled, make_scaled
from tests.tiny_models import answer, ask_unevenly, load


def test_calls_are_a_tree(tmp_path: Path) -> None:
    _, found = capture_scaled(tmp_path / "calls")
    told = [(call.module, call.number, call.parent) for call in found.calls]
    assert told == [("", 0, None), ("inner", 0, 0), ("", 1, None), ("inner", 1, 2)]
    assert found.modules[""]["settings"] == {"factor": 0.5}
    assert found.modules["inner"]["settings"]["in_features"] == 6
    assert found.modules[""]["parameters"] == ["x", "add"]


def test_a_function_is_decorated(tmp_path: Path) -> None:
    module = make_scaled()

    @capture(module, tmp_path / "calls")
    def work() -> Tensor:
        return module(torch.ones(6))

    result = work()
    found = Capture(tmp_path / "calls")
    assert torch.equal(found.output(found.calls[0]), result)
    assert not module._forward_hooks and not module._forward_pre_hooks


def test_the_first_calls_of_each_module_are_kept(tmp_path: Path) -> None:
    module = make_scaled()
    with capture(module, tmp_path / "calls", calls=2):
        for _ in range(5):
            module(torch.randn(6))
    found = Capture(tmp_path / "calls")
    assert [call.number for call in found.calls if call.module == "inner"] == [0, 1]
    left_out = found.facts["left_out"]["calls"]
    assert left_out == {"": {"the limit of calls": 3}, "inner": {"the limit of calls": 3}}


@pytest.mark.slow  # to import the compiler takes seconds
def test_compiled_code_is_captured_and_stays_compiled(tmp_path: Path) -> None:
    runs = []

    def compiler(graph: Any, _: Any) -> Any:
        return lambda *given: (runs.append(1), graph(*given))[1]

    module, x = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval(), torch.randn(2, 3)
    compiled = torch.compile(module, backend=compiler)
    compiled(x)
    with capture(compiled, tmp_path / "calls"):
        compiled(x)
    before = len(runs)
    compiled(x)
    called = {call.module for call in Capture(tmp_path / "calls").calls}
    assert called == {"", "_orig_mod", "_orig_mod.0", "_orig_mod.1"}
    assert before == 1 and len(runs) == 2


def test_modules_are_chosen_by_patterns(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    with capture(module, tmp_path / "calls", modules=("[01]", "nowhere*"), max_modules=1):
        module(torch.randn(3))
    found = Capture(tmp_path / "calls")
    assert {call.module for call in found.calls} == {"0"}
    assert found.facts["left_out"]["modules_over_the_limit"] == ["1"]
    with pytest.raises(ConfigError, match="no module has such a path"):
        capture(module, tmp_path / "other", modules=("encoder.*",))
    with capture(module, tmp_path / "one", modules="[2]"):
        module(torch.randn(3))
    assert {call.module for call in Capture(tmp_path / "one").calls} == {"2"}


def test_a_bound_below_the_description_is_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    refused = pytest.raises(ConfigError, match="bytes=100: allowed is a number from")
    with refused, capture(network, tmp_path / "calls", max_bytes=100):
        network(torch.ones(1, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bound",
    [200_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (60_000, 10**6, 3 * 10**6))],
)
def test_a_bound_of_bytes_is_kept(bound: int, tmp_path: Path) -> None:
    engine = load("llava")
    with capture(engine.network, tmp_path / "calls", calls=9, max_bytes=bound, weights=False):
        answer(engine, ask_unevenly(engine, 2), 112, 2)
    assert size_bytes(tmp_path / "calls") <= bound
    found = Capture(tmp_path / "calls")
    counts = found.facts["left_out"]["calls"].values()
    assert sum(count.get("the limit of bytes", 0) for count in counts) > 0
    assert all(one.equal for one in replay_all(found, engine.network))


def test_a_call_that_raises_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    module = make_scaled()
    with pytest.raises(RuntimeError), capture(module, tmp_path / "calls"):
        module(torch.randn(6))
        module(torch.randn(5))
    found = Capture(tmp_path / "calls")
    assert [call.module for call in found.calls] == ["", "inner"]
    assert "the call raised an error" in found.facts["left_out"]["calls"]["inner"]
    assert found.facts["interrupted"].startswith("RuntimeError")


def test_what_cannot_be_stored_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor, how: object) -> Tensor:
            return x

    with capture(Odd(), tmp_path / "calls"):
        Odd()
    module = Odd()
    with capture(module, tmp_path / "odd"):
        module(torch.ones(2), object())
    assert Capture(tmp_path / "odd").facts["opaque"] == {"builtins.object": 1}
    (replayed,) = replay_all(Capture(tmp_path / "odd"), module)
    assert replayed.unable == "an argument was not stored: builtins.object"


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    class Anything(nn.Module):
        def forward(self, *args: object, **kwargs: object) -> object:
            return args, kwargs

    module = Anything()
    given = (None, True, 2, float("inf"), "text", [1, (2.5, {"a": None})], {1: "one", (2, 3): 0})
    named = {"dtype": torch.bfloat16, "size": torch.Size([2, 3]), "half": torch.ones(2).bfloat16()}
    with capture(module, tmp_path / "calls"):
        module(*given, **named)
    found = Capture(tmp_path / "calls")
    args, kwargs = found.arguments(found.calls[0])
    assert args == given
    assert kwargs.pop("half").dtype == torch.bfloat16
    assert kwargs == {"dtype": torch.bfloat16, "size": torch.Size([2, 3])}


def test_each_tensor_is_stored_once(tmp_path: Path) -> None:
    module, x = nn.Identity(), torch.randn(50_000)
    with capture(module, tmp_path / "calls", calls=20):
        for _ in range(20):
            module(x)
    assert size_bytes(tmp_path / "calls") < 1.2 * x.nbytes


def test_what_a_module_changes_in_place_is_stored_as_it_was_before(tmp_path: Path) -> None:
    class Changes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1)

    module = Changes()
    with capture(module, tmp_path / "calls"):
        module(torch.zeros(3))
    found = Capture(tmp_path / "calls")
    assert found.arguments(found.calls[0])[0][0].tolist() == [0, 0, 0]
    assert found.output(found.calls[0]).tolist() == [1, 1, 1]


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        capture(make_scaled(), tmp_path)


def test_nothing_depends_on_this_machine(tmp_path: Path) -> None:
    _, found = capture_scaled(tmp_path / "calls")
    texts = [path.read_bytes() for path in found.folder.iterdir()]
    assert not any(str(tmp_path).encode() in text for text in texts)
    assert json.loads((found.folder / "capture.json").read_text())["made_with"].keys() == {
        "torch",
        "transformers",
        "python",
        "processor",
        "threads",
    }


class _GivesBack(nn.Module):
    def forward(self, value: object) -> object:
        return value


_BYTES = torch.arange(3 * 16, dtype=torch.uint8)
_COMPLEX = torch.tensor([1 + 2j, -0j], dtype=torch.complex64)


@pytest.mark.parametrize(
    "value",
    [
        *(
            _BYTES.view(getattr(torch, name))
            for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "int8")
        ),
        _COMPLEX,
        _COMPLEX.conj(),
        _COMPLEX.conj().imag,
        torch.tensor([True, False, True]),
        torch.tensor([float("nan"), -0.0, float("-inf")]),
        torch.tensor(1.5),
        torch.zeros(0, 3),
        torch.ones(1, 4).expand(3, 4),
    ],
    ids=lambda value: f"{value.dtype} {tuple(value.shape)}",
)
def test_a_tensor_of_any_kind_comes_back_with_the_same_bits(value: Tensor, tmp_path: Path) -> None:
    module = _GivesBack()
    with capture(module, tmp_path / "calls"):
        # Of other sizes of elements, too: each has to lie where its own size divides its place.
        module((torch.tensor([True]), value, torch.tensor([2.0, 3.0])))
    (call,) = Capture(tmp_path / "calls").calls
    found = Capture(tmp_path / "calls").output(call)
    assert found[1].dtype == value.dtype
    assert digest_of(found[1]) == digest_of(value)
    assert torch.equal(found[2], torch.tensor([2.0, 3.0]))


def test_a_place_in_memory_that_holds_something_else_is_another_tensor(tmp_path: Path) -> None:
    module, values = _GivesBack(), torch.tensor([0.0, float("nan")])
    with capture(module, tmp_path / "calls"):
        module(values)
        values[0] = -0.0
        module(values)
    found = Capture(tmp_path / "calls")
    signs = [torch.signbit(found.output(call)[0]).item() for call in found.calls]
    assert signs == [False, True]


def test_texts_and_numbers_come_back(tmp_path: Path) -> None:
    values = ['"\\\n\u2028', "\ud800", 2**70, True, None, -0.0, float("inf"), (), {"": []}]
    module = _GivesBack()
    with capture(module, tmp_path / "calls"):
        module(values)
    found = Capture(tmp_path / "calls")
    assert repr(found.output(found.calls[0])) == repr(values)


def test_keys_of_any_kind_come_back(tmp_path: Path) -> None:
    value = {None: 1, torch.bfloat16: 2, torch.device("cpu"): 3, (1, "a"): 4, 2.5: 5, True: 6}
    module = _GivesBack()
    with capture(module, tmp_path / "calls"):
        module(value)
    found = Capture(tmp_path / "calls")
    assert found.output(found.calls[0]) == value


def test_a_key_that_was_not_stored_is_named(tmp_path: Path) -> None:
    module = _GivesBack()
    with capture(module, tmp_path / "calls"):
        module({frozenset({1}): torch.ones(1)})
    (replayed,) = replay_all(Capture(tmp_path / "calls"), module)
    assert replayed.unable == "an argument was not stored: builtins.frozenset"


class Pair(NamedTuple):
    left: Tensor
    right: tuple[int, ...]


def test_named_tuples_keep_their_names(tmp_path: Path) -> None:
    module, pair = _GivesBack(), Pair(torch.ones(2), (3,))
    with capture(module, tmp_path / "calls"):
        module([pair, torch.ones(3, 2).max(0)])
    found = Capture(tmp_path / "calls")
    left, largest = found.output(found.calls[0])
    assert left.left.tolist() == [1, 1] and left.right == (3,) and left._fields == Pair._fields
    assert largest.values.tolist() == [1, 1] and largest.indices.dtype == torch.int64


class Raises(Mapping[str, Any]):
    """A user's own class that cannot be read."""

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("nothing to see")

    def __len__(self) -> int:
        return 1


def test_values_that_cannot_be_read_leave_the_forward_alone(tmp_path: Path) -> None:
    around: list[Any] = []
    around.append(around)
    module = _GivesBack()
    module.around, module.raising = around, Raises()
    with capture(module, tmp_path / "calls", calls=9):
        assert module(around) is around
        module(Raises())
        module(torch.ones(1))
    found = Capture(tmp_path / "calls")
    assert [found.output(call).tolist() for call in found.calls] == [[1]]
    assert found.facts["left_out"]["calls"][""] == {
        "a value raised RecursionError when it was read": 1,
        "a value raised RuntimeError when it was read": 1,
    }
    assert "around" not in found.modules[""]["settings"]
