"""Draws one picture with its question, its references and the boxes of its contents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import matplotlib
import numpy
from PIL import Image, ImageDraw, ImageFont

from training import lexicon

Colour = tuple[int, int, int]
PictureSize = tuple[int, int]  # width and height in pixels

_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FONT_NAMES = ("DejaVuSansMono-Bold.ttf", "DejaVuSans-Bold.ttf")
PICTURE_SIZES: tuple[PictureSize, ...] = ((224, 224), (320, 240), (240, 320))

_COLOUR_NAMES = tuple(lexicon.COLOURS)
# Always all of them in one order, so that the answer depends on the picture alone: networks of this
# size did not learn to search the options in the text.
_OPTIONS = "choices: " + " ".join(f"({i}) {name}" for i, name in enumerate(_COLOUR_NAMES))
_SHAPE_CLASSES = len(lexicon.SHAPES) * len(_COLOUR_NAMES)
_BAR_CLASS = 1 + _SHAPE_CLASSES
_CHARACTER_CLASS = _BAR_CLASS + len(_COLOUR_NAMES)
CLASS_COUNT = _CHARACTER_CLASS + len(lexicon.CHARACTERS)

BOARDS: tuple[tuple[Colour, Colour], ...] = (
    ((250, 250, 250), (15, 15, 15)),
    ((250, 220, 90), (25, 20, 10)),
    ((205, 225, 245), (20, 30, 80)),
    ((25, 110, 60), (250, 250, 250)),
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An object in a picture: its class and its box as shares of width and height."""

    kind: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture, a question about it, the answer, all references, and the objects in it."""

    picture: Image.Image
    request: str
    answer: str
    references: tuple[str, ...]
    marks: tuple[Mark, ...]


class Canvas:
    """A picture with its content in the central square, in units of that square's side."""

    def __init__(self, *, size: PictureSize, random: Random, brightness: tuple[int, int]):
        self.width, self.height = size
        self.side = min(size)
        self.left, self.top = (self.width - self.side) / 2, (self.height - self.side) / 2
        self.picture = Image.new("RGB", size, _light(random, brightness))
        self.pen = ImageDraw.Draw(self.picture)
        self.marks: list[Mark] = []
        self._paint_background(random, brightness)

    def x(self, share: float) -> float:
        return self.left + share * self.side

    def y(self, share: float) -> float:
        return self.top + share * self.side

    def mark(self, kind: int, left: float, top: float, right: float, bottom: float) -> None:
        """Record an object by its box in pixels."""
        w, h = self.width, self.height
        box = {"left": left / w, "top": top / h, "right": right / w, "bottom": bottom / h}
        self.marks.append(Mark(kind=kind, **box))

    def _paint_background(self, random: Random, brightness: tuple[int, int]) -> None:
        for _ in range(random.randrange(4)):
            x, y = random.uniform(0, self.width), random.uniform(0, self.height)
            r = random.uniform(0.1, 0.5) * self.side
            self.pen.ellipse([x - r, y - r, x + r, y + r], fill=_light(random, brightness))


def draw_caption(random: Random, *, held_out: bool, size: PictureSize | None = None) -> Scene:
    """One to three coloured shapes and their arrangement."""
    count = random.choices((1, 2, 3), weights=(25, 55, 20))[0]
    relation = random.choice(("left of", "above")) if count == 2 else "row"
    things = _choose_things(random, count, relation, held_out)
    canvas = Canvas(size=size or _choose_size(random), random=random, brightness=(205, 255))
    for thing, (x, y, radius) in zip(things, _places(random, count, relation), strict=True):
        _draw_shape(canvas, *thing, x, y, radius)
    references = _captions(things, relation)
    return _finish(canvas, random.choice(lexicon.CAPTION_REQUESTS), references[0], references)


def draw_sign(
    random: Random,
    *,
    held_out: bool,
    size: PictureSize | None = None,
    doubled_rate: float = 0.0,
) -> Scene:
    """A sign with a word, a number, or both.

    `doubled_rate` is the rate of made-up words with a character twice in a row, which are rare by
    chance.
    """
    lines = [_choose_text(random, held_out, doubled_rate)]
    if random.random() < 0.25:
        lines.append(_choose_text(random, held_out, doubled_rate))
    canvas = Canvas(size=size or _choose_size(random), random=random, brightness=(120, 235))
    board, ink = random.choice(BOARDS)
    _draw_board(canvas, random, board, ink)
    _draw_lines(canvas, random, lines, ink)
    answer = " ".join(lines)
    references = _disagree(random, answer, lines)
    return _finish(canvas, random.choice(lexicon.SIGN_REQUESTS), answer, references)


def draw_choice(random: Random, *, held_out: bool, size: PictureSize | None = None) -> Scene:
    """A bar chart or a diagram of shapes; the answer is the number of the correct option."""
    canvas, subject, answer = _choose_diagram(random, held_out, size)
    number = str(_COLOUR_NAMES.index(answer))
    return _finish(canvas, f"{subject} {_OPTIONS}", number, (number,))


def draw_colour(random: Random, *, held_out: bool, size: PictureSize | None = None) -> Scene:
    """The same diagrams as for choices, with the colour itself as the answer."""
    canvas, subject, answer = _choose_diagram(random, held_out, size)
    return _finish(canvas, subject, answer, (answer,))


def draw_page(random: Random, *, held_out: bool, size: PictureSize | None = None) -> Scene:
    """A sign filled with single characters, for alignment steps only."""
    canvas = Canvas(size=size or _choose_size(random), random=random, brightness=(120, 235))
    board, ink = random.choice(BOARDS)
    _draw_board(canvas, random, board, ink)
    em = random.uniform(0.26, 0.42)
    count = int(0.92 / (0.75 * em))
    places = [0.5 + (i - (count - 1) / 2) * 0.78 * em for i in range(count)]
    font_name = random.choice(FONT_NAMES)
    for y in places:
        for x in places:
            character = random.choice(lexicon.CHARACTERS)
            sway = random.uniform(-0.04, 0.04) * em
            _draw_text(canvas, font_name, character, x + sway, y + sway, em, ink)
    return _finish(canvas, "", "", ("",))


def label_patches(marks: tuple[Mark, ...], rows: int, columns: int) -> numpy.ndarray:
    """The class at the centre of every patch of a grid; 0 is background."""
    labels = numpy.zeros((rows, columns), dtype=numpy.int64)
    for mark in marks:
        top, bottom = math.ceil(mark.top * rows - 0.5), math.floor(mark.bottom * rows - 0.5)
        left, right = math.ceil(mark.left * columns - 0.5), math.floor(mark.right * columns - 0.5)
        labels[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = mark.kind
    return labels


TASKS: dict[str, Callable[..., Scene]] = {
    "caption": draw_caption,
    "sign": draw_sign,
    "choice": draw_choice,
}
STEPPING_STONES: dict[str, Callable[..., Scene]] = {
    "colour": draw_colour,
    "page": draw_page,
}
FIRST_CHARACTER = _CHARACTER_CLASS


def _finish(canvas: Canvas, request: str, answer: str, references: tuple[str, ...]) -> Scene:
    marks = tuple(canvas.marks)
    picture = canvas.picture
    return Scene(
        picture=picture, request=request, answer=answer, references=references, marks=marks
    )


def _light(random: Random, brightness: tuple[int, int]) -> Colour:
    low, high = brightness
    return random.randint(low, high), random.randint(low, high), random.randint(low, high)


def _choose_size(random: Random) -> PictureSize:
    return random.choices(PICTURE_SIZES, weights=(80, 13, 7))[0]


def _choose_things(
    random: Random, count: int, relation: str, held_out: bool
) -> list[tuple[str, str]]:
    while True:
        things = [
            (random.choice(_COLOUR_NAMES), random.choice(lexicon.SHAPES)) for _ in range(count)
        ]
        repeated = len(set(things)) < count
        if not repeated and (count == 1 or lexicon.is_held_out(f"{relation} {things}") == held_out):
            return things


def _places(random: Random, count: int, relation: str) -> list[tuple[float, float, float]]:
    def near(centre: float, spread: float) -> float:
        return centre + random.uniform(-spread, spread)

    if count == 1:
        return [(near(0.5, 0.28), near(0.5, 0.28), random.uniform(0.12, 0.2))]
    if count == 3:
        return [
            (near(x, 0.02), near(0.5, 0.25), random.uniform(0.11, 0.13)) for x in (0.17, 0.5, 0.83)
        ]
    along, across = (near(0.25, 0.04), near(0.75, 0.04)), (near(0.5, 0.2), near(0.5, 0.2))
    radii = (random.uniform(0.12, 0.18), random.uniform(0.12, 0.18))
    pairs = (
        zip(along, across, strict=True)
        if relation == "left of"
        else zip(across, along, strict=True)
    )
    return [(x, y, r) for (x, y), r in zip(pairs, radii, strict=True)]


def _captions(things: list[tuple[str, str]], relation: str) -> tuple[str, ...]:
    names = [f"{'an' if colour[0] == 'o' else 'a'} {colour} {shape}" for colour, shape in things]
    if len(names) == 1:
        return (names[0], f"there is {names[0]}")
    if len(names) == 3:
        first, second, third = names
        return (f"{first}, {second} and {third}", f"{first} and {second} and {third}")
    opposite = {"left of": "right of", "above": "below"}[relation]
    return (f"{names[0]} {relation} {names[1]}", f"{names[1]} {opposite} {names[0]}")


def _draw_shape(canvas: Canvas, colour: str, shape: str, x: float, y: float, radius: float) -> None:
    cx, cy, r = canvas.x(x), canvas.y(y), radius * canvas.side
    fill = lexicon.COLOURS[colour]
    if shape == "circle":
        canvas.pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=fill)
    elif shape == "square":
        s = 0.92 * r
        canvas.pen.rectangle([cx - s, cy - s, cx + s, cy + s], fill=fill)
    else:
        canvas.pen.polygon(_corners(shape, cx, cy, r), fill=fill)
    kind = 1 + lexicon.SHAPES.index(shape) * len(_COLOUR_NAMES) + _COLOUR_NAMES.index(colour)
    canvas.mark(kind, cx - r, cy - r, cx + r, cy + r)


def _corners(shape: str, cx: float, cy: float, r: float) -> list[tuple[float, float]]:
    if shape == "triangle":
        return [(cx, cy - r), (cx - r, cy + r), (cx + r, cy + r)]
    reaches = [r * (1.12 if i % 2 == 0 else 0.47) for i in range(10)]
    turns = [i * math.pi / 5 for i in range(10)]
    return [
        (cx + reach * math.sin(turn), cy - reach * math.cos(turn))
        for reach, turn in zip(reaches, turns, strict=True)
    ]


def _choose_text(random: Random, held_out: bool, doubled_rate: float) -> str:
    share = random.random()
    if held_out:
        pool = lexicon.HELD_OUT_WORDS if share < 0.35 else lexicon.TRAINING_WORDS
        return random.choice(pool) if share < 0.7 else str(random.randint(10, 999))
    if share < 0.35:
        return random.choice(lexicon.TRAINING_WORDS)
    if share < 0.55:
        return str(random.randint(10, 999))
    while True:
        characters = random.choices(lexicon.CHARACTERS, k=random.randint(2, 4))
        if random.random() < doubled_rate:
            second = random.randrange(1, len(characters))
            characters[second] = characters[second - 1]
        text = "".join(characters)
        if text not in lexicon.HELD_OUT_WORDS:
            return text


def _draw_board(canvas: Canvas, random: Random, board: Colour, ink: Colour) -> None:
    margin = [random.uniform(0.0, 0.04) for _ in range(4)]
    left, top = canvas.x(margin[0]), canvas.y(margin[1])
    right, bottom = canvas.x(1 - margin[2]) - 1, canvas.y(1 - margin[3]) - 1
    width = random.choice((0, 2, 4))
    canvas.pen.rectangle([left, top, right, bottom], fill=board, outline=ink, width=width)


def _draw_lines(canvas: Canvas, random: Random, lines: list[str], ink: Colour) -> None:
    font_name = random.choice(FONT_NAMES)
    longest = max(_width(font_name, text) for text in lines)
    biggest = min(0.9 / longest, 0.44 if len(lines) == 1 else 0.4)
    em = biggest * random.uniform(0.88, 1.0)
    centres = (0.5,) if len(lines) == 1 else (0.29, 0.71)
    for text, centre in zip(lines, centres, strict=True):
        slack = max(0.0, 0.95 - em * _width(font_name, text)) / 2
        x = 0.5 + random.uniform(-slack, slack)
        sway = 0.15 if len(lines) == 1 else 0.05
        y = centre + random.uniform(-sway, sway)
        _draw_text(canvas, font_name, text, x, y, em, ink)


def _draw_text(
    canvas: Canvas, font_name: str, text: str, x: float, y: float, em: float, ink: Colour
) -> None:
    font = _load_font(font_name, round(em * canvas.side))
    left, baseline = canvas.x(x) - font.getlength(text) / 2, canvas.y(y) + 0.365 * font.size
    canvas.pen.text((left, baseline), text, font=font, fill=ink, anchor="ls")
    for position, character in enumerate(text):
        start = left + font.getlength(text[:position])
        end = left + font.getlength(text[: position + 1])
        kind = _CHARACTER_CLASS + lexicon.CHARACTERS.index(character)
        canvas.mark(kind, start, baseline - 0.73 * font.size, end, baseline)


@cache
def _load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine is always available, so text is drawn equally on every machine.
    return ImageFont.truetype(_FONTS / name, size, layout_engine=ImageFont.Layout.BASIC)


def _width(font_name: str, text: str) -> float:
    return _load_font(font_name, 100).getlength(text) / 100


def _disagree(random: Random, answer: str, lines: list[str]) -> tuple[str, ...]:
    """Ten references; the most frequent one is correct."""
    odd = [answer.lower(), lines[0] if len(lines) > 1 else f"{answer} sign", "unanswerable"]
    odd.append(answer[:-1])
    wrong = random.randint(0, 4)
    references = [answer] * (10 - wrong) + [random.choice(odd) for _ in range(wrong)]
    random.shuffle(references)
    return tuple(references)


def _choose_diagram(
    random: Random, held_out: bool, size: PictureSize | None
) -> tuple[Canvas, str, str]:
    draw = _draw_chart if random.random() < 0.6 else _draw_shapes
    return draw(random, held_out, size)


def _choose_colours(random: Random, count: int, held_out: bool) -> list[str]:
    while True:
        colours = random.sample(_COLOUR_NAMES, count)
        if lexicon.is_held_out(" ".join(colours)) == held_out:
            return colours


def _draw_chart(
    random: Random, held_out: bool, size: PictureSize | None
) -> tuple[Canvas, str, str]:
    colours = _choose_colours(random, random.choice((3, 4)), held_out)
    canvas = Canvas(size=size or _choose_size(random), random=random, brightness=(225, 255))
    heights = [0.12 + 0.1 * level for level in _choose_levels(random, len(colours))]
    _draw_axes(canvas)
    step = 0.9 / len(colours)
    for i, (colour, height) in enumerate(zip(colours, heights, strict=True)):
        _draw_bar(canvas, colour, 0.09 + step * i, step * 0.72, height)
    word, best = random.choice((("tallest", max), ("shortest", min)))
    answer = colours[heights.index(best(heights))]
    return canvas, f"which bar is the {word}?", answer


def _choose_levels(random: Random, count: int) -> list[int]:
    """Different levels; the highest and the lowest differ clearly from the others."""
    while True:
        levels = random.sample(range(8), count)
        ranked = sorted(levels)
        if min(ranked[1] - ranked[0], ranked[-1] - ranked[-2]) >= 2:
            return levels


def _draw_axes(canvas: Canvas) -> None:
    corners = [(0.04, 0.04), (0.04, 0.94), (0.98, 0.94)]
    canvas.pen.line([(canvas.x(x), canvas.y(y)) for x, y in corners], fill=(20, 20, 20), width=3)


def _draw_bar(canvas: Canvas, colour: str, left: float, width: float, height: float) -> None:
    box = (canvas.x(left), canvas.y(0.93 - height), canvas.x(left + width), canvas.y(0.93))
    canvas.pen.rectangle(box, fill=lexicon.COLOURS[colour])
    canvas.mark(_BAR_CLASS + _COLOUR_NAMES.index(colour), *box)


def _draw_shapes(
    random: Random, held_out: bool, size: PictureSize | None
) -> tuple[Canvas, str, str]:
    colours = _choose_colours(random, random.choice((2, 3)), held_out)
    shapes = random.sample(lexicon.SHAPES, len(colours))
    canvas = Canvas(size=size or _choose_size(random), random=random, brightness=(205, 255))
    relation = random.choice(("left of", "above")) if len(colours) == 2 else "row"
    places = _places(random, len(colours), relation)
    for colour, shape, (x, y, radius) in zip(colours, shapes, places, strict=True):
        _draw_shape(canvas, colour, shape, x, y, radius)
    asked = random.randrange(len(colours))
    return canvas, f"what colour is the {shapes[asked]}?", colours[asked]
