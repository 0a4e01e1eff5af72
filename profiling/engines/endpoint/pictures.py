"""Pictures as they are sent: in the size that `img_size` asks for, as a data URI."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

AREA, CROP = "area", "crop"


@dataclass(frozen=True, kw_only=True)
class SentPicture:
    """A picture in a request, and the size that it was sent in."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class PictureSender:
    """Resizes and encodes pictures as the settings say.

    `fit` is "area" where the aspect ratio is kept at the area of a square of the side that is asked
    for, "square" where the picture is stretched to it, and "crop" where its middle is cut out.
    Sides are multiples of so many pixels.
    """

    fit: str
    multiple: int
    format: str
    resample: Image.Resampling
    jpeg_quality: int

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PictureSender:
        return cls(
            fit=settings["picture_fit"],
            multiple=settings["picture_multiple"],
            format=settings["picture_format"],
            resample=Image.Resampling[settings["picture_filter"].upper()],
            jpeg_quality=settings["jpeg_quality"],
        )

    def send(self, picture: Image.Image, side: int) -> SentPicture:
        sized = self.resize(picture, side)
        return SentPicture(uri=self.encode(sized), width=sized.width, height=sized.height)

    def resize(self, picture: Image.Image, side: int) -> Image.Image:
        width, height = self.size_for(picture, side)
        if self.fit != CROP:
            return picture.resize((width, height), resample=self.resample)
        scale = max(width / picture.width, height / picture.height)
        covering = [math.ceil(length * scale) for length in (picture.width, picture.height)]
        whole = picture.resize((covering[0], covering[1]), resample=self.resample)
        left, top = (whole.width - width) // 2, (whole.height - height) // 2
        return whole.crop((left, top, left + width, top + height))

    def size_for(self, picture: Image.Image, side: int) -> tuple[int, int]:
        """Width and height that a picture is sent in."""
        scale = side / math.sqrt(picture.width * picture.height)
        lengths = [picture.width * scale, picture.height * scale]
        if self.fit != AREA:
            lengths = [side, side]
        width, height = (
            max(1, round(length / self.multiple)) * self.multiple for length in lengths
        )
        return width, height

    def encode(self, picture: Image.Image) -> str:
        buffer = io.BytesIO()
        options = {"quality": self.jpeg_quality} if self.format == "jpeg" else {}
        picture.save(buffer, self.format, **options)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        return f"data:image/{self.format};base64,{data}"
