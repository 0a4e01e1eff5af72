"""What `pyproject.toml` cannot say: a wheel carries the project's files in the package."""

from __future__ import annotations

from setuptools import find_packages, setup

# Folders beside the package, that `profiling.PROJECT` finds in `profiling/project` once installed.
CARRIED = ("conf", "checkpoints", "datasets")

setup(
    packages=[
        *find_packages(include=["profiling", "profiling.*"]),
        "hydra_plugins",
        *(f"profiling.project.{name}" for name in CARRIED),
    ],
    package_dir={f"profiling.project.{name}": name for name in CARRIED},
    package_data={
        "": ["*.csv", "*.pyi", "py.typed"],
        "profiling.report.write": ["page/*"],
        **{f"profiling.project.{name}": ["**/*"] for name in CARRIED},
    },
)
