"""How many positions a model has, which bounds what it can generate."""

from __future__ import annotations

from pathlib import Path

from profiling.errors import ConfigError
from profiling.files import LARGEST_SETTINGS, read_json


def count_positions(config: str) -> int | None:
    """The positions of the language model in a folder; None where no file says so.

    Models with relative positions have no limit. Of a hub checkpoint nothing is known before it is
    downloaded.
    """
    path = Path(config) / "config.json"
    if not path.is_file():
        return None
    values = read_json(path, at_most=LARGEST_SETTINGS)
    text = values.get("text_config")
    positions = (text if isinstance(text, dict) else values).get("max_position_embeddings")
    return positions if isinstance(positions, int) else None


def check_length(key: str, tokens: int, positions: int | None) -> None:
    """Refuse more new tokens than a model has positions for."""
    if positions is not None and tokens > positions:
        allowed = f"allowed is a whole number from 1 to {positions}, the positions of this model"
        raise ConfigError(key, tokens, allowed)
