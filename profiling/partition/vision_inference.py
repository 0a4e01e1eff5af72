"""Turns a picture into embeddings: python vision_inference.py --image PICTURE --output FILE.npz"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from PIL import Image

from profiling.files import require_json
from profiling.models.windows import attention_indices
from profiling.samples.pictures import PictureError, read_picture

HERE = Path(__file__).resolve().parent
Array = NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True, type=Path)
    parser.add_argument("--output", default=Path("embeddings.npz"), type=Path)
    parser.add_argument("--threads", default=0, type=int, help="0: chosen by the runtime")
    chosen = parser.parse_args()
    if chosen.threads < 0:
        sys.exit(f"--threads {chosen.threads}: allowed is a whole number from 0")
    recipe = require_json(HERE / "preprocessing.json")
    pixels = see(obtain_picture(chosen.image), recipe)
    embeddings = run(HERE / "vision_model.onnx", make_feeds(pixels, recipe), chosen.threads)
    height, width = pixels.shape[1:]
    try:
        # An open file keeps its name, to which the library would add an ending.
        with chosen.output.open("wb") as stream:
            numpy.savez(stream, embeddings=embeddings, width=width, height=height)
    except OSError as problem:
        sys.exit(f"--output: {problem}")
    print(f"{len(embeddings)} embeddings of {width}x{height} pixels: {chosen.output}")


def obtain_picture(path: Path) -> Image.Image:
    """A picture as it is displayed; ends the script where there is none that can be read."""
    try:
        return read_picture(path)
    except PictureError as problem:
        sys.exit(f"--image {path}: {problem}")


def see(picture: Image.Image, recipe: dict[str, Any]) -> Array:  # [3, height, width]
    """Pixels, resized and normalized for the model."""
    resized = resize(picture, recipe)
    values = numpy.asarray(resized).astype(numpy.float64) * recipe["rescale_factor"]
    values = values.astype(numpy.float32)
    mean, std = (numpy.array(recipe[name], numpy.float32) for name in ("mean", "std"))
    normalized: Array = ((values - mean) / std).transpose(2, 0, 1)
    return normalized


def resized_to(width: int, height: int, recipe: dict[str, Any]) -> tuple[int, int]:
    """The width and height of a picture of this size, once it is resized and cut."""
    side = recipe["side"]
    if recipe["fit"] != "area":
        return side, side
    # The area of a square with that side, in the picture's aspect ratio.
    multiple = recipe["multiple"]
    scale = side / math.sqrt(width * height) / multiple
    wide, high = (max(1, round(length * scale)) * multiple for length in (width, height))
    return wide, high


def resize(picture: Image.Image, recipe: dict[str, Any]) -> Image.Image:
    side, resample = recipe["side"], recipe["resample"]
    width, height = picture.size
    if recipe["fit"] in ("square", "area"):
        return picture.resize(resized_to(width, height, recipe), resample)
    short, long = sorted((width, height))
    longest = int(side * long / short)
    larger = picture.resize((side, longest) if width <= height else (longest, side), resample)
    left, top = (larger.width - side) // 2, (larger.height - side) // 2
    return larger.crop((left, top, left + side, top + side))


def make_feeds(pixels: Array, recipe: dict[str, Any]) -> dict[str, Array]:
    """The inputs of the graph."""
    cut = recipe["patches"]
    if cut is None:
        return {"pixel_values": pixels[None]}
    patch, merge = cut["patch"], cut["merge"]
    rows, columns = pixels.shape[1] // patch, pixels.shape[2] // patch
    blocks = pixels.reshape(3, rows // merge, merge, patch, columns // merge, merge, patch)
    if cut["channels_last"]:
        patches = blocks.transpose(1, 4, 2, 5, 3, 6, 0).reshape(rows * columns, -1)
    else:
        patches = blocks.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
        patches = numpy.repeat(patches, cut["frames"], axis=5).reshape(rows * columns, -1)
    if recipe["window"] is None:
        return {"pixel_values": patches}
    grid = (1, rows, columns)
    indices = attention_indices([grid], merge=merge, window=recipe["window"])
    return {"pixel_values": patches, **indices}


def run(graph: Path, feeds: dict[str, Array], threads: int) -> Array:
    # It reads this when it is imported, and otherwise keeps a database in the user's cache.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    if not graph.is_file():
        sys.exit(f"{graph} is missing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])
    wanted = {
        given.name: numpy.ascontiguousarray(feeds[given.name]) for given in session.get_inputs()
    }
    embeddings: Array = session.run(None, wanted)[0]
    return embeddings


if __name__ == "__main__":
    main()
