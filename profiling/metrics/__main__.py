"""`python -m profiling.metrics`: the page that explains every column, on the standard output."""

from __future__ import annotations

import sys

from profiling.metrics.catalog import list_own_entries
from profiling.metrics.columns_page import write_page

sys.stdout.write(write_page(list_own_entries()))
