"""Checks in a process of their own, whose context on the GPU is gone when they are done."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from profiling.machine.clock import Time
from profiling.selfcheck.budget import CutOff
from profiling.selfcheck.finding import Finding


def run_isolated(checks: str, arguments: tuple[Any, ...], *, at_most_s: float) -> Iterator[Finding]:
    """The findings of a function, by its full name, as they come.

    Raises `CutOff` where they take longer than that.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_all, args=(theirs, checks, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield from _receive(ours, until_s=Time().now_s() + at_most_s)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the process of the checks ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _receive(connection: Connection, *, until_s: float) -> Iterator[Finding]:
    while True:
        if not connection.poll(max(0.0, until_s - Time().now_s())):
            raise CutOff
        try:
            yield connection.recv()
        except EOFError:
            return


def _send_all(connection: Connection, checks: str, arguments: tuple[Any, ...]) -> None:
    module, _, name = checks.rpartition(".")
    for finding in getattr(import_module(module), name)(*arguments):
        connection.send(finding)
    connection.close()
