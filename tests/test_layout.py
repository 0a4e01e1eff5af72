"""The shape of the project: who may import whom, what may be called what, and where things lie."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from profiling.points.options import list_families

PROJECT = Path(__file__).resolve().parent.parent
CODE = ("profiling", "hydra_plugins", "training", "benchmarks")

# A room imports from its own row and from rows above it, never from one below.
ROWS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "files", "arguments", "records", "metrics", "statistics"}),
    frozenset({"points", "samples", "machine"}),
    frozenset({"models"}),
    frozenset({"costs", "parts"}),
    frozenset({"runtimes"}),
    frozenset({"graphs"}),
    frozenset({"engines"}),
    frozenset({"probes", "quality", "divergence"}),
    frozenset({"captures"}),
    frozenset({"report"}),
    frozenset({"trackers"}),
    frozenset({"runs"}),
    frozenset(
        {
            *("main", "__main__", "cost", "fetch", "merge", "partition", "selfcheck", "versus"),
            *("capture", "verify", "hydra_plugins", "api"),
        }
    ),
)
REPORT_READS = frozenset({"errors", "files", "records", "metrics", "statistics", "report"})
LIGHT = ("errors", "records", "statistics", "points", "samples", "machine", "quality", "report")
HEAVY = frozenset({"torch", "transformers"})
BANNED_NAMES = frozenset(
    {"util", "utils", "common", "helper", "helpers", "manager", "core", "misc"}
)


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((PROJECT / folder).rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_module(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def walk(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file."""
    return tuple(ast.walk(parse(path)))


@cache
def list_imports(path: Path) -> tuple[str, ...]:
    """Every import of a file, also those inside functions and under TYPE_CHECKING."""
    found: list[str] = []
    for node in walk(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written out in full"
            assert node.module is not None
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


_PLACES = frozenset({"PACKAGE", "PROJECT", "import_path"})


def list_rooms(path: Path) -> set[str]:
    """The rooms of profiling/ that a file imports from."""
    parts = (name.split(".") for name in list_imports(path))
    return {part[1] for part in parts if part[0] == "profiling" and part[1] not in _PLACES}


def room_of(path: Path) -> str:
    return name_module(path).removeprefix("profiling.").split(".")[0]


MODULES = [
    path
    for path in (PROJECT / "main.py", *python_files("profiling", "hydra_plugins"))
    if path != PROJECT / "profiling" / "__init__.py"
]


def name_file(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@cache
def list_allowed(room: str) -> frozenset[str]:
    """The rooms that a room may import from."""
    if room == "report":
        return REPORT_READS
    rows = [number for number, row in enumerate(ROWS) if room in row]
    assert rows, f"{room} has no place in the picture yet: give it a row"
    return frozenset().union(*ROWS[: rows[0] + 1])


def test_imports_point_one_way() -> None:
    against = {name_file(path): list_rooms(path) - list_allowed(room_of(path)) for path in MODULES}
    assert {name: rooms for name, rooms in against.items() if rooms} == {}


# Where a framework may be imported; everything else asks an engine.
FRAMEWORK_ROOMS = (
    "engines/functional/",
    "engines/transformers/",
    "captures/",
    "models/",
    "parts/",
    "graphs/",
    "costs/",
    "machine/peaks.py",
    "machine/torch_device.py",
    "selfcheck/",
    "partition/",
)


def test_frameworks_stay_in_their_rooms() -> None:
    found = [
        name
        for path in python_files("profiling")
        if {imported.split(".")[0] for imported in list_imports(path)} & HEAVY
        and not (name := path.relative_to(PROJECT / "profiling").as_posix()).startswith(
            FRAMEWORK_ROOMS
        )
    ]
    assert found == []


def test_the_top_level_stays_small() -> None:
    assert len(list((PROJECT / "profiling").glob("*.py"))) <= 12


OPTIMIZATIONS = sorted(path.stem for path in (PROJECT / "conf" / "optimization").glob("*.yaml"))
# Other ideas go by these names too: a command's word, a dtype, a kind of quantized graph, a format
# of checkpoints.
SHARED_WORDS = frozenset({"awq", "baseline", "bf16", "compile", "split", "int4", "int8"})


def test_optimizations_are_known_by_name_only_in_their_room() -> None:
    inside = PROJECT / "profiling" / "engines" / "transformers" / "optimizations"
    words = set(OPTIMIZATIONS) - SHARED_WORDS
    named = {
        f"{name_file(path)}: {node.value}"
        for path in MODULES
        if inside not in path.parents and has_any(path, words)
        for node in ast.walk(without_docstrings(path))
        if isinstance(node, ast.Constant) and node.value in words
    }
    assert named == set()


def test_no_circle_of_imports() -> None:
    waiting = {name_module(p): p for p in python_files("profiling")}
    needs = {
        name: {found for found in map(str, list_imports(path)) if found.startswith("profiling.")}
        for name, path in waiting.items()
    }
    graph = {
        name: {known for found in wanted for known in _named(found, waiting)} - {name}
        for name, wanted in needs.items()
    }
    while graph:
        free = {name for name, wanted in graph.items() if not wanted & graph.keys()}
        assert free, f"these import each other in a circle: {sorted(graph)}"
        graph = {name: wanted for name, wanted in graph.items() if name not in free}


def _named(found: str, known: dict[str, Path]) -> set[str]:
    """`profiling.a.b` is the module b of a, or something inside the module a."""
    parent = found.rpartition(".")[0]
    return {found} if found in known else {parent} & known.keys()


def run_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_light_rooms_import_no_framework() -> None:
    names = [f"profiling.{room}" for room in LIGHT]
    program = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        f"    print(name, *({set(HEAVY)} & sys.modules.keys()))\n"
    )
    assert run_python(program).splitlines() == names


def test_a_point_is_checked_without_a_framework() -> None:
    program = (
        "import sys, main, hydra\n"
        "from profiling.runs.session import plan_point\n"
        "from profiling.points.configuration import read_config\n"
        f"with hydra.initialize_config_dir({str(PROJECT / 'conf')!r}, version_base='1.3'):\n"
        "    plan = plan_point(read_config(hydra.compose('config', ['results_dir=.'])))\n"
        f"print(plan.point.model, *({set(HEAVY)} & sys.modules.keys()))\n"
    )
    assert run_python(program) == "qwen25vl\n"


def test_settings_are_checked_without_a_framework() -> None:
    room = PROJECT / "profiling" / "engines"
    names = [name_module(path) for path in room.rglob("settings.py")]
    names += [name_module(path) for path in room.rglob("settings/*.py")]
    program = f"import importlib, sys\n[importlib.import_module(name) for name in {names}]\n"
    assert run_python(program + f"print(*{set(HEAVY)} & sys.modules.keys())") == "\n"
    assert len(names) > 1


def test_the_parent_reaches_no_framework() -> None:
    """The command imports only what is needed to check points; models live in the child."""
    seen: set[str] = set()
    waiting = ["main", "hydra_plugins.grouped_sweeper"]
    while waiting:
        name = waiting.pop()
        if name in seen or not (path := find_module(name)):
            continue
        seen.add(name)
        found = set(list_imports(path))
        assert not {part.split(".")[0] for part in found} & HEAVY, f"{name} imports a framework"
        waiting += [step for part in found for step in (part, part.rpartition(".")[0])]
    assert {"profiling.runs.worker", "profiling.runs.sweep", "profiling.runs.session"} <= seen


def find_module(name: str) -> Path | None:
    stem = PROJECT / name.replace(".", "/")
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in python_files("profiling", "training")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


# What a package that is optional, and may not be installed, is called in its index.
SHIPPED_AS = {"mlflow": "mlflow-skinny", "paddle": "paddlepaddle"}
# Not imported by name: transformers does it when it places a network or renders a chat template,
# and torch when it exports one.
BEHIND_THE_SCENES = frozenset({"accelerate", "jinja2", "onnxscript"})


def read_project() -> dict[str, Any]:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def name_packages(requirements: Iterable[str]) -> set[str]:
    """The packages that requirements name, the project itself left out."""
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in requirements)
    own = {read_project()["name"]}
    return {re.sub(r"[-_.]+", "-", name.group().lower()) for name in names if name} - own


def list_imported_packages() -> set[str]:
    own = {"profiling", "training", "hydra_plugins", *sys.stdlib_module_names}
    paths = [*MODULES, *python_files("training")]
    imported = {name.split(".")[0] for path in paths for name in list_imports(path)} - own
    shipped_by = packages_distributions()
    packages = {package for name in imported for package in shipped_by.get(name, [name])}
    packages = {SHIPPED_AS.get(package, package) for package in packages}
    return {re.sub(r"[-_.]+", "-", package.lower()) for package in packages}


def test_what_is_imported_is_what_is_required() -> None:
    project = read_project()
    required = name_packages(project["dependencies"])
    extras = project["optional-dependencies"].values()
    optional = set().union(*map(name_packages, extras)) - required
    needed = list_imported_packages() | BEHIND_THE_SCENES
    assert required - needed == set(), "required and never imported"
    assert needed - required - optional == set(), "imported and never required"


def read_lines(name: str) -> list[str]:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_extra_has_a_file_that_installs_it() -> None:
    files = {path.stem.removeprefix("requirements-") for path in PROJECT.glob("requirements-*.txt")}
    extras = read_project()["optional-dependencies"]
    assert files == set(extras)
    for extra in extras:
        own = ["-r requirements.txt", f"-e .[{extra}]"]
        assert read_lines(f"requirements-{extra}.txt") == own


def test_a_checkout_is_installed_at_the_tested_versions() -> None:
    """torch before everything else, since others would bring the newest build of it."""
    tested = {line.partition("==")[0]: line for line in read_lines("constraints.txt")}
    assert read_lines("requirements.txt") == ["-c constraints.txt", tested["torch"], "-e ."]


# Compiled where it is installed, against the CUDA that is there.
UNTESTED = frozenset({"flash-attn"})


def test_every_range_holds_the_tested_version() -> None:
    project = read_project()
    ranges = [Requirement(line) for line in project["dependencies"]]
    for listed in project["optional-dependencies"].values():
        ranges += [Requirement(line) for line in listed]
    tested = {
        re.sub(r"[-_.]+", "-", pin.name.lower()): str(pin.specifier).removeprefix("==")
        for pin in map(Requirement, read_lines("constraints.txt"))
    }
    names = {re.sub(r"[-_.]+", "-", one.name.lower()): one for one in ranges}
    names.pop(project["name"])
    assert names.keys() - tested.keys() <= UNTESTED | {"ninja"}
    assert [
        str(one)
        for name, one in names.items()
        if name in tested and tested[name] not in one.specifier
    ] == []


def test_sample_folders_hold_no_code() -> None:
    assert list(python_files("datasets")) == []


def test_sample_folders_leave_the_name_to_a_package(tmp_path: Path) -> None:
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("FROM = 'elsewhere'\n")
    program = (
        f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; print(datasets.FROM)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=PROJECT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("elsewhere\n", "")


def test_names_say_what_is_inside() -> None:
    paths = [p.relative_to(PROJECT) for p in python_files(*CODE, "tests")]
    vague = [str(p) for p in paths for part in p.with_suffix("").parts if _is_vague(part)]
    assert vague == []


def _is_vague(name: str) -> bool:
    return bool(BANNED_NAMES & set(name.split("_")))


FAMILIES = sorted(path.stem for path in (PROJECT / "conf" / "model").glob("*.yaml"))


def test_families_are_known_by_name_only_to_the_models() -> None:
    makers = {stem.split("_")[0].rstrip("0123456789vl") or stem for stem in list_families()}
    assert makers >= {"blip", "fuyu", "llava", "qwen"}
    named = [
        f"{name_file(path)}: {line.strip()}"
        for path in MODULES
        if room_of(path) != "models" and has_any(path, makers)
        for line in ast.unparse(without_docstrings(path)).splitlines()
        if any(maker in line.lower() for maker in makers)
    ]
    assert named == []


def has_any(path: Path, words: Iterable[str]) -> bool:
    """Whether one of the words stands anywhere in a file, in a docstring too."""
    text = path.read_text(encoding="utf-8").lower()
    return any(word in text for word in words)


def without_docstrings(path: Path) -> ast.Module:
    """What the code of a file does; an example in a docstring may name a family."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        told = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if told and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return tree


# The name that stands for the model as it is.
PLAIN = "baseline"


def test_engines_and_optimizations_are_known_by_name_only_to_their_rooms() -> None:
    groups = (PROJECT / "conf" / group for group in ("engine", "optimization"))
    names = {yaml.stem for group in groups for yaml in group.glob("*.yaml")}
    named = {}
    for path in (p for p in MODULES if room_of(p) in ("points", "runs", "main")):
        default = {"torch"} if path.stem == "point" else set()
        constants = {node.value for node in walk(path) if isinstance(node, ast.Constant)}
        named[name_file(path)] = names & constants - {PLAIN, *default}
    assert {name: found for name, found in named.items() if found} == {}


def test_an_optimization_and_its_module_share_a_stem() -> None:
    stems = {path.stem for path in (PROJECT / "conf" / "optimization").glob("*.yaml")}
    room = PROJECT / "profiling" / "engines" / "transformers" / "optimizations"
    assert stems
    assert stems - {path.stem for path in room.glob("*.py")} == set()


MODEL_FOLDERS = sorted(p.parent for p in (PROJECT / "profiling" / "models").glob("*/__init__.py"))
RULES = frozenset({"parts_rule", "processors", "proof"})
FAMILY_FILES = frozenset({"__init__", "processing", "network", "costs"})


def names_a_family(folder: Path) -> bool:
    """Whether the folder's `__init__` ends in `FAMILY = …` and so can be selected by its name."""
    last = parse(folder / "__init__.py").body[-1]
    targets = last.targets if isinstance(last, ast.Assign) else []
    return [ast.unparse(target) for target in targets] == ["FAMILY"]


def test_every_family_has_a_yaml_and_a_folder() -> None:
    assert [folder.name for folder in MODEL_FOLDERS if names_a_family(folder)] == FAMILIES


@pytest.mark.parametrize("folder", MODEL_FOLDERS, ids=name_file)
def test_model_folders_have_the_same_files(folder: Path) -> None:
    files = {path.stem for path in folder.glob("*.py")}
    # Without an architecture of its own a model goes by rules.
    rules = {path.stem for path in folder.glob("*.py")} & RULES
    assert rules in (set(), RULES)
    assert files - {"functional"} - rules == FAMILY_FILES


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_made_of_the_files_in_its_folder(name: str) -> None:
    init = PROJECT / "profiling" / "models" / name / "__init__.py"
    (definition,) = (node for node in walk(init) if isinstance(node, ast.Call))
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in definition.keywords}
    assert given.pop("name") == repr(name)
    files = {"processing": "processing", "layout": "network", "costs": "costs"}
    made_of = {f"profiling.models.{name}.{files[part]}.{used}" for part, used in given.items()}
    assert made_of < set(list_imports(init))


def test_every_function_is_annotated() -> None:
    bare = [
        f"{name_file(path)}:{node.lineno} {node.name}"
        for path in (*MODULES, *python_files("training"))
        for node in walk(path)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _is_annotated(node)
    ]
    assert bare == []


def _is_annotated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    arguments += [extra for extra in (given.vararg, given.kwarg) if extra is not None]
    bare = [a for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
    return not bare and (node.returns is not None or node.name == "__init__")


def test_every_module_says_what_it_is_for() -> None:
    paths = (*MODULES, *python_files("training", "tests"))
    assert [name_file(path) for path in paths if not ast.get_docstring(parse(path))] == []


def test_functions_are_short() -> None:
    lengths = {
        f"{name_file(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in walk(path)
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) * 9 // 10] <= 40
