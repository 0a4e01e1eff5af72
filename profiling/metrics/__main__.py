"""`python -m profiling.metrics`: the page that explains every column, on the standard output."""

from __future__ import annotations

import sys

from profiling.metrics.page import write_page
from profiling.metrics.registry import list_own_entries

sys.stdout.write(write_page(list_own_entries()))
