"""The vocabulary of the drawn pictures: colours, shapes, words, and what is held out."""

from __future__ import annotations

import zlib

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (35, 155, 55),
    "blue": (45, 75, 215),
    "yellow": (238, 208, 40),
    "purple": (140, 55, 170),
    "orange": (242, 130, 25),
}
SHAPES = ("circle", "square", "triangle", "star")
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

_TRAINING = """
    STOP EXIT OPEN CAFE BANK TAXI PARK SHOP ROAD LEFT EAST WEST FIRE FOOD BOOK MILK PORT HALL
    ROOM ZONE SLOW FAST WAIT PUSH PULL KEEP FREE SALE GYM ZOO JAZZ VISA EURO CASH POST CITY FARM
    LAKE HILL CLUB BIKE BOAT TEA INN BAR DOCK LIFT MENU PIER QUAY SPA TOLL WIFI YARD AXE BOX CUP
    DEN EGG FOG HUT ICE JAM KEY LAW MAP NET OAK PUB RUG SUN TOY VAN WAX ARCH BELL COVE DIVE ECHO
    FLAG GOLF HERB IDOL JUDO KITE LOFT MINT NOVA OVEN PLUM RACE SOUP TENT UNIT VINE WOLF YOGA
"""
_HELD_OUT = "GATE FISH WALK QUIZ TOWN HELP BUS MAIL FUEL VOTE SIGN DESK JOB LAMP EXPO RYE"
TRAINING_WORDS = tuple(_TRAINING.split())
HELD_OUT_WORDS = tuple(_HELD_OUT.split())

CAPTION_REQUESTS = (
    "describe the image",
    "describe the picture",
    "what is in the picture?",
    "what does the image show?",
)
SIGN_REQUESTS = (
    "what does the sign say?",
    "what is written on the sign?",
    "read the sign",
    "what is the text on the sign?",
)
CHARACTERS_OF_REQUESTS = "?.,:()"

# Filler words before a question; training includes them.
NEUTRAL_WORDS = ("please", "now", "well", "so", "then", "just", "and", "here")

_SENTENCES = (
    "a red circle left of a blue square right of above below under , and or of the an it is are",
    "what does the image show in the picture describe shown written on say says read text sign",
    "which bar is the tallest shortest highest lowest choices choice option options answer",
    "what colour color is the shape shapes chart bars diagram number word digit large small",
    "You are a helpful assistant user assistant system USER ASSISTANT Question Answer Choices",
    "to with there this that one two three four five please photo of how many at left top bottom",
    "can you see look tell me about for in on by as its has have not yes no be was from question",
    "man woman dog cat car bus street table people person tree sky water white black brown grey",
)


def words() -> list[str]:
    """Every word with a token of its own, in a fixed order."""
    listed = [*COLOURS, *SHAPES, *NEUTRAL_WORDS]
    for sentence in (*_SENTENCES, *CAPTION_REQUESTS, *SIGN_REQUESTS):
        listed += [w.strip(CHARACTERS_OF_REQUESTS) for w in sentence.split()]
    return list(dict.fromkeys(w for w in listed if len(w) > 1))


def is_held_out(key: str) -> bool:
    """Whether a combination is held out; a quarter are, independent of the seed."""
    return zlib.crc32(key.encode()) % 4 == 0
