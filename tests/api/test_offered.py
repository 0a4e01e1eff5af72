"""`import profiling` offers the public names, and stays light."""

from __future__ import annotations

import ast
import subprocess
import sys

import profiling
import profiling.api
from profiling import PROJECT


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, profiling\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'hydra', 'matplotlib'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
        "from profiling import load\n"
        "print(load.__module__, sorted({'torch', 'transformers'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "profiling.api.loaded []"]


def test_the_names_are_those_of_the_api_and_of_the_stub() -> None:
    stub = ast.parse((PROJECT / "profiling" / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module == "profiling.api"
        for alias in node.names
    }
    assert set(profiling.__all__) == set(profiling.api.__all__) == typed
    for name in profiling.__all__:
        assert getattr(profiling, name) is getattr(profiling.api, name)
        assert name in dir(profiling)


def test_another_name_is_missing_as_in_any_module() -> None:
    assert not hasattr(profiling, "runn")


def test_every_name_is_documented() -> None:
    page = (PROJECT / "docs" / "python_api.md").read_text(encoding="utf-8")
    assert [name for name in profiling.__all__ if f"`profiling.{name}" not in page] == []
    assert all(getattr(profiling.api, name).__doc__ for name in profiling.__all__)
