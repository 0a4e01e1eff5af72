"""Measures time and memory of reports: `python -m benchmarks.report_speed`.

Writes synthetic records into a temporary folder, then measures each step in its own process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.report.synthetic import write_many

LOAD = "import sys; from profiling.records import load; print(len(load(sys.argv[1])))"
IMPORT = "import profiling.report"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="records for pages and the table")
    parser.add_argument("--many", type=int, default=20_000, help="records that are only loaded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        write_many(few, options.runs)
        write_many(many, options.many)
        report = [sys.executable, "-m", "profiling.report", str(few)]
        measure("import profiling.report", [sys.executable, "-c", IMPORT])
        measure(f"all pages of {options.runs}", [*report, "--output", f"{folder}/pages"])
        measure(f"HTML page of {options.runs}", [*report, "--html", f"{folder}/page.html"])
        measure(f"CSV table of {options.runs}", [*report, "--csv", f"{folder}/table.csv"])
        measure(f"records.load of {options.many}", [sys.executable, "-c", LOAD, str(many)])


def measure(name: str, command: list[str]) -> None:
    """Wall time, CPU time, and the highest resident memory of any child so far."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_mib = after.ru_maxrss / 1024
    print(f"{name:32}{wall_s:8.2f} s{busy_s:8.2f} s busy{peak_mib:7.0f} MiB at most", flush=True)


if __name__ == "__main__":
    main()
