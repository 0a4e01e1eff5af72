"""What `pyproject.toml` cannot say: a wheel carries the project's files in the package."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

# Folders beside the package, that `profiling.PROJECT` finds in `profiling/project` once installed.
CARRIED = ("conf", "checkpoints", "datasets")


def read_requirements(path: Path) -> list[str]:
    """The requirements that a file names itself, without comments and without other files."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


ROOT = Path(__file__).resolve().parent
EXTRAS = {
    path.stem.removeprefix("requirements-"): read_requirements(path)
    for path in sorted(ROOT.glob("requirements-*.txt"))
}

setup(
    packages=[
        *find_packages(include=["profiling", "profiling.*"]),
        "hydra_plugins",
        *(f"profiling.project.{name}" for name in CARRIED),
    ],
    package_dir={f"profiling.project.{name}": name for name in CARRIED},
    package_data={
        "profiling": ["py.typed"],
        "profiling.report.write": ["page/*", "*.csv"],
        **{f"profiling.project.{name}": ["**/*"] for name in CARRIED},
    },
    install_requires=read_requirements(ROOT / "requirements.txt"),
    extras_require=EXTRAS,
)
