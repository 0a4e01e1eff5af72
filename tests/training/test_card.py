"""The table of a model card."""

from __future__ import annotations

from dataclasses import asdict

from training.card import name_command, tabulate
from training.plan import read_plan


def test_table_has_a_row_a_size_and_the_measured_numbers():
    measured = {
        "caption_wer": 0.1,
        "sign_wer": 0.2,
        "sign_wer_unseen_words": 0.3,
        "choice_accuracy": 0.4,
    }
    lines = tabulate({112: measured, 84: measured}).splitlines()
    assert lines[2] == "| 112 | 0.100 | 0.200 | 0.300 | 0.400 |"
    assert lines[3].startswith("| 84 |")
    assert len({line.count("|") for line in lines}) == 1


def test_the_command_is_what_was_typed():
    plan = asdict(read_plan("blip2_t5", {"look_steps": 800}))
    command = name_command("blip2_t5", {"seed": 0, "start_from": "trained", **plan})
    typed = "--model blip2_t5 --start-from trained --look-steps 800 --state DIR --output DIR"
    assert command == f"python -m training.train {typed}"
