"""`python -m profiling.report`: pages, files and comparisons from the records of a folder."""

from __future__ import annotations

import sys

from profiling.report.command import main

sys.exit(main(sys.argv[1:]))
