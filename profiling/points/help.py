"""What `main.py --help` prints: the keys with their options and defaults, and examples."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from profiling.points.key import declarations
from profiling.points.options import CONF, is_group, list_families, list_options
from profiling.points.point import Point

_WIDTH, _COLUMN = 96, 18
_USAGE = """\
Measures vision-language models: time, energy, compute and answer quality, phase by phase.

  python main.py [key=value ...]       one point
  python main.py -m [key=a,b,... ...]  a sweep over every combination of the values
"""
_MORE = """\
Without a default, a key is as the model, the data or the machine has it. --cfg job prints the
whole configuration, --hydra-help the flags of Hydra. The exit status is 0 when all is measured,
1 when a point failed, and 2 for a wrong configuration.
"""


_COST_USAGE = """\
Counts what a point costs without running it: FLOPs, bytes moved, weights and cache, by phase.

  python -m profiling.cost [key=value ...]
"""
_COST_KEYS = (
    *("model", "weights", "model.checkpoint", "optimization", "dataset"),
    *("img_size", "prompt_len", "num_pictures", "num_frames"),
    *("batch_size", "max_new_tokens", "num_samples"),
)
_COST_MORE = """\
weights is random here where it is not given: the real architecture, of which nothing is downloaded.
Every key takes a list of values. Keys of this command alone: convention=fastv,calflops,... counts
as papers and tools do, gpu=h100,... predicts the least time from data sheets, prompt_tokens=N and
visual_tokens=N count with other lengths. --explain shows every line that is counted, --csv FILE and
--json FILE write the table.

All keys of main.py are allowed; python main.py --help lists them. The exit status is 2 for a wrong
configuration.
"""


def describe_cost() -> str:
    """What `python -m profiling.cost --help` prints."""
    keys = [line for name in _COST_KEYS for line in _describe_keys(name)]
    examples = [f"  {example}" for example in list_cost_examples()]
    return "\n".join([_COST_USAGE, "Keys:", *keys, "", "Examples:", *examples, "", _COST_MORE])


def list_cost_examples() -> list[str]:
    first, *_ = list_families()
    command = "python -m profiling.cost"
    return [
        command,
        f"{command} model={first} img_size=336 batch_size=4",
        f"{command} model={first} prompt_len=50 max_new_tokens=100",
        f"{command} model={first} weights=tiny optimization=bf16",
        f"{command} model={first} model.checkpoint=FOLDER",
        f"{command} model={first} img_size=224,448 gpu=h100,l4",
    ]


def describe_command() -> str:
    return "\n".join([_USAGE, "Keys:", *_describe_keys(), "", "Examples:", *_list(), "", _MORE])


def _list() -> Iterator[str]:
    return (f"  {example}" for example in list_examples())


def list_examples() -> list[str]:
    first, second, *_ = list_families()
    return [
        "python main.py profiler=quick",
        "python main.py -m img_size=112,224 batch_size=1,4 profiler=quick",
        f"python main.py -m model={first},{second} profiler=quick dry=true",
        "python main.py experiment=optimizations profiler=quick",
        "python main.py weights=random img_size=448 max_new_tokens=20 device=auto",
    ]


def _describe_keys(only: str | None = None) -> Iterator[str]:
    defaults = _read_defaults()
    for _, declared in declarations(Point):
        if declared.help is not None:
            name = declared.root if declared.name.endswith(".name") else declared.name
            if only in (None, name):
                yield from _describe(name, declared.help, defaults.get(name))
    if only is None:
        yield from _describe("experiment", "a sweep with a name", None)


def _describe(name: str, text: str, default: Any) -> list[str]:
    if is_group(name):
        text += f": {', '.join(list_options(name))}"
    if default is not None:
        text += f" (default: {default if isinstance(default, str) else json.dumps(default)})"
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=f"  {name:<{_COLUMN}}",
        subsequent_indent=" " * (_COLUMN + 2),
        break_long_words=False,
    )


def _read_defaults() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    for chosen in values.pop("defaults"):
        values |= chosen if isinstance(chosen, dict) else {}
    return values
