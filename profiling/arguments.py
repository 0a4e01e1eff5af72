"""Command lines that refuse what is wrong in one line, with the status of a wrong configuration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from profiling.errors import ConfigError

WRONG_CONFIGURATION = 2


class Parser(argparse.ArgumentParser):
    """Without the usage, which would bury what is wrong."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{self.prog}: {message}")


def refuse(line: object, status: int = WRONG_CONFIGURATION) -> NoReturn:
    print(" ".join(part.strip() for part in str(line).splitlines()), file=sys.stderr)
    sys.exit(status)


@contextmanager
def refusing() -> Iterator[None]:
    """What only turns out to be wrong while it is read is refused like a misspelt argument."""
    try:
        yield
    except ConfigError as error:
        refuse(error)


def whole_from(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number, and not below the least."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least}")
        return number

    return read
