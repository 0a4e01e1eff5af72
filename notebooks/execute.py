"""Runs the notebooks and keeps what they put out: python notebooks/execute.py [NAME …]"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbclient
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

FOLDER = Path(__file__).resolve().parent


class OwnKernel(AsyncKernelManager):
    """A kernel of the Python that runs this, whatever kernels are registered here."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def execute(path: Path, *, timeout_s: int = 3600) -> nbformat.NotebookNode:
    """The notebook with the outputs of this run; a cell that raises is an error."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=timeout_s,
        kernel_manager_class=OwnKernel,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # The project that the notebooks lie in comes before one that is installed.
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), before])
    client.execute()
    return notebook


def list_notebooks(names: list[str]) -> list[Path]:
    chosen = [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb"))
    for path in chosen:
        if not path.is_file():
            sys.exit(f"{path.stem}: there is no such notebook")
    return chosen


def main() -> None:
    for path in list_notebooks(sys.argv[1:]):
        print(path.name, flush=True)
        notebook = execute(path)
        # What depends on the machine that ran it, and on nothing that is shown.
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
