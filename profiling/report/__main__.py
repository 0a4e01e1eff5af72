"""`python -m profiling.report`: pages, files and comparisons from the records of a folder."""

from __future__ import annotations

import io
import sys

from profiling.report.command import main

for stream in (sys.stdout, sys.stderr):
    # A terminal that lacks a character gets an escape.
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
sys.exit(main(sys.argv[1:]))
