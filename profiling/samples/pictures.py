"""Reads picture files as they are displayed, and says in one line what is wrong with one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
from PIL import ExifTags, Image, UnidentifiedImageError

from profiling.files import LARGEST_PICTURE, PICTURE_FORMATS, UnfitFile, describe, open_file

# What turns a picture upright, by the orientation that its file states; 1 is upright already.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(ValueError):
    """A file that is not a complete picture."""


def read_picture(path: Path) -> Image.Image:
    """A picture as displayed: upright, opaque, 8-bit RGB; the first frame of an animated one."""
    with open_picture(path) as picture:
        picture.load()
        return as_displayed(picture)


@contextmanager
def open_picture(
    path: Path, *, formats: tuple[str, ...] = PICTURE_FORMATS
) -> Iterator[Image.Image]:
    """An open picture; whatever is found to be wrong with the file is a `PictureError`."""
    try:
        with warnings.catch_warnings():
            # Other warnings of Pillow are followed by an error or do not change the pixels.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_file(path, at_most=LARGEST_PICTURE) as stream:
                with Image.open(stream, formats=formats) as check:
                    check.verify()
                stream.seek(0)
                with Image.open(stream, formats=formats) as picture:
                    yield picture
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except UnfitFile as error:
        raise PictureError(describe(error)) from None
    except UnidentifiedImageError:
        allowed = ", ".join(formats)
        raise PictureError(f"not a complete picture in one of the formats {allowed}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(str(error)) from None
    except MemoryError:
        raise
    except Exception as error:  # which one Pillow raises for a damaged file depends on the damage
        raise PictureError(f"not a complete picture: {' '.join(str(error).split())}") from None


def as_displayed(picture: Image.Image) -> Image.Image:
    """A decoded picture upright and in RGB.

    Pillow's `exif_transpose` would also write the other EXIF data again, and fails where one of
    them is damaged.
    """
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return as_rgb(picture if turn is None else picture.transpose(turn))


def as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        return _from_sixteen_bits(picture).convert("RGB")
    if picture.mode == "F":
        raise PictureError("floating-point pixels have no agreed white")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        page = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(page, seen).convert("RGB")
    return picture.convert("RGB")


def _from_sixteen_bits(picture: Image.Image) -> Image.Image:
    # 257 maps 65535 to 255 exactly; the high byte alone would darken by up to one step.
    values = numpy.asarray(picture)
    levels = numpy.clip(numpy.rint(values.astype(numpy.float64) / 257), 0, 255)
    # A level that is transparent shows the white page.
    levels[values == picture.info.get("transparency", -1)] = 255
    return Image.fromarray(levels.astype(numpy.uint8), mode="L")
