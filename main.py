"""Measure one point, or sweep over many: python main.py [key=value …] or python main.py -m …"""

from __future__ import annotations

from profiling.runs.entry import main

if __name__ == "__main__":
    main()
