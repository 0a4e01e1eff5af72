"""Checks for a process of their own: two findings, one that hangs, one that dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from profiling.selfcheck.finding import Finding, judge


def _found(name: str) -> Finding:
    return judge(name, expected="x", found="x", right=True)


def send_two(name: str) -> Iterator[Finding]:
    yield _found(name)
    yield _found(f"{name} again")


def never_end() -> Iterator[Finding]:
    yield _found("first")
    time.sleep(600)


def die() -> Iterator[Finding]:
    yield _found("first")
    os._exit(3)
