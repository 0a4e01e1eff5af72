"""`python -m profiling.report`: pages, files and comparisons from the records of a folder."""

from __future__ import annotations

import sys

from profiling.arguments import print_anything
from profiling.report.command import main

print_anything()
sys.exit(main(sys.argv[1:]))
