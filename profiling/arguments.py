"""Command lines that answer a mistake with one line and the status of a wrong configuration."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from profiling.errors import ConfigError

WRONG_CONFIGURATION = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{self.prog}: {message}")


def print_anything() -> None:
    """Have a terminal that lacks a character get an escape instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ending_quietly(status: int = 1) -> Iterator[None]:
    """End without a traceback where the reader, such as `head`, has closed the output."""
    try:
        try:
            yield
        finally:
            # also where an exit status has been decided: the interpreter would name the error
            sys.stdout.flush()
    except BrokenPipeError:
        # What is buffered cannot be written either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(status)


def refuse(line: object, status: int = WRONG_CONFIGURATION) -> NoReturn:
    print(" ".join(part.strip() for part in str(line).splitlines()), file=sys.stderr)
    sys.exit(status)


@contextmanager
def refusing() -> Iterator[None]:
    """Refuse a configuration error that is found after the arguments were parsed."""
    try:
        yield
    except ConfigError as error:
        refuse(error)


def require_writable(key: str, path: Path) -> None:
    """Refuse a path that nothing can be written to, before the work is done."""
    if path.is_dir():
        raise ConfigError(key, path, "is a folder")
    parent = path.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        told = f"cannot be written: {error.strerror or error}"
        raise ConfigError(key, path, told) from None


def whole_from(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least `least`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least}")
        return number

    return read
