"""What may be chosen about a graph, known without importing what makes or runs one."""

from __future__ import annotations

LAYOUTS = ("single", "parts", "half")
