"""Pictures are read as a person sees them, and samples as their folder holds them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from profiling import PROJECT
from profiling.errors import ConfigError
from profiling.samples.pictures import PictureError, read_picture
from profiling.samples.samples import (
    Sample,
    batches,
    check_pictures,
    digest_samples,
    full_batches,
    load_samples,
)
from tests.composing import make_dataset, write_index

RED, GREEN, BLUE, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
)
# Two rows of three, all different, so that every turn and every mirror image shows.
UPRIGHT = numpy.array(
    [[(10, 0, 0), (20, 0, 0), (30, 0, 0)], [(40, 0, 0), (50, 0, 0), (60, 0, 0)]], dtype=numpy.uint8
)
ORIENTATION = 0x0112
ORIENTATIONS = range(1, 9)


def store(seen: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """How pixels lie in the file, by the standard's words on where row and column 0 are seen."""
    turned = seen.transpose(1, 0, 2) if orientation >= 5 else seen
    row_0_is_last = orientation in (3, 4, 6, 7)  # at the bottom or at the right
    column_0_is_last = orientation in (2, 3, 7, 8)  # at the right or at the bottom
    turned = turned[::-1] if row_0_is_last else turned
    return numpy.ascontiguousarray(turned[:, ::-1] if column_0_is_last else turned)


def pixels(picture: Image.Image) -> numpy.ndarray:
    assert picture.mode == "RGB"
    return numpy.asarray(picture)


def rows(path: Path) -> list[list[tuple[int, ...]]]:
    return [[tuple(map(int, cell)) for cell in row] for row in pixels(read_picture(path))]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_turned_pictures_are_upright(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(store(UPRIGHT, orientation))
    options = {"lossless": True} if kind == "webp" else {}
    stored.save(tmp_path / f"turned.{kind}", exif=exif, **options)
    assert numpy.array_equal(pixels(read_picture(tmp_path / f"turned.{kind}")), UPRIGHT)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turned_photographs_are_upright(orientation: int, tmp_path: Path) -> None:
    """JPEG loses a little, so its quarters are large and of one colour each."""
    quarters = numpy.zeros((32, 48, 3), dtype=numpy.uint8)
    quarters[:16, :24], quarters[:16, 24:] = 40, 110
    quarters[16:, :24], quarters[16:, 24:] = 180, 250
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray(store(quarters, orientation)).save(path, exif=exif, quality=95)
    seen = pixels(read_picture(path)).astype(int)
    assert seen.shape == quarters.shape
    assert numpy.abs(seen - quarters).max() <= 8


RESOLUTION = 0x011A
TEXT_IN_PLACE_OF_FRACTION = (b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_a_picture_is_turned_although_other_exif_data_are_damaged(
    kind: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[RESOLUTION] = 6, 72.0
    path = tmp_path / f"damaged.{kind}"
    Image.new("RGB", (32, 24), RED).save(path, exif=exif)
    content = path.read_bytes()
    assert content.count(TEXT_IN_PLACE_OF_FRACTION[0]) == 1
    path.write_bytes(content.replace(*TEXT_IN_PLACE_OF_FRACTION))
    assert read_picture(path).size == (24, 32)


def palette(path: Path, **options: object) -> Path:
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    picture.save(path, **options)
    return path


def test_palette(tmp_path: Path) -> None:
    assert rows(palette(tmp_path / "plain.png")) == [[RED, GREEN, BLUE]]
    assert rows(palette(tmp_path / "plain.gif")) == [[RED, GREEN, BLUE]]


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    """What is transparent shows the white of the page."""
    assert rows(palette(tmp_path / "one.png", transparency=1)) == [[RED, WHITE, BLUE]]


def test_palette_with_half_transparent_colours(tmp_path: Path) -> None:
    path = palette(tmp_path / "several.png", transparency=bytes([255, 0, 51]))
    # A fifth of blue over white.
    assert rows(path) == [[RED, WHITE, (204, 204, 255)]]


def test_a_colour_that_stands_for_transparent(tmp_path: Path) -> None:
    picture = Image.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), GREEN)
    picture.save(tmp_path / "keyed.png", transparency=GREEN)
    assert rows(tmp_path / "keyed.png") == [[RED, WHITE]]


def test_red_green_blue_and_alpha(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (4, 1))
    picture.putdata([(*RED, 255), (*RED, 0), (*BLACK, 51), (*BLUE, 102)])
    picture.save(tmp_path / "alpha.png")
    assert rows(tmp_path / "alpha.png") == [[RED, WHITE, (204, 204, 204), (153, 153, 255)]]


def test_grey_and_alpha(tmp_path: Path) -> None:
    picture = Image.new("LA", (3, 1))
    picture.putdata([(100, 255), (100, 0), (0, 51)])
    picture.save(tmp_path / "grey.png")
    assert rows(tmp_path / "grey.png") == [[(100,) * 3, WHITE, (204,) * 3]]


def test_grey(tmp_path: Path) -> None:
    picture = Image.new("L", (3, 1))
    picture.putdata([0, 77, 255])
    picture.save(tmp_path / "grey.png")
    assert rows(tmp_path / "grey.png") == [[BLACK, (77,) * 3, WHITE]]


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_grey_of_sixteen_bits(kind: str, tmp_path: Path) -> None:
    """Plain conversion would cut everything above 255 to white."""
    levels = numpy.array([[0, 128, 129, 257, 12850, 65407, 65535]], dtype=numpy.uint16)
    Image.fromarray(levels).save(tmp_path / f"deep.{kind}")
    expected = [0, 0, 1, 1, 50, 255, 255]
    assert rows(tmp_path / f"deep.{kind}") == [[(level,) * 3 for level in expected]]


def test_a_transparent_level_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    levels = numpy.array([[0, 1000, 1001, 65535]], dtype=numpy.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png", transparency=1000)
    expected = [0, 255, 4, 255]
    assert rows(tmp_path / "deep.png") == [[(level,) * 3 for level in expected]]


def test_one_bit(tmp_path: Path) -> None:
    picture = Image.new("1", (3, 1))
    picture.putdata([0, 255, 0])
    picture.save(tmp_path / "bits.png")
    assert rows(tmp_path / "bits.png") == [[BLACK, WHITE, BLACK]]


def test_four_inks(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (4, 1))
    picture.putdata([(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (255, 255, 0, 0)])
    picture.save(tmp_path / "inks.tif")
    assert rows(tmp_path / "inks.tif") == [[WHITE, RED, BLACK, BLUE]]


def test_four_inks_as_a_photograph(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "inks.jpg", quality=100)
    seen = pixels(read_picture(tmp_path / "inks.jpg")).astype(int)
    assert numpy.abs(seen - numpy.array(RED)).max() <= 4


def test_the_first_frame_of_several(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert rows(tmp_path / "film.gif") == [[RED, RED], [RED, RED]]


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), GREEN).save(tmp_path / "dot.png")
    assert rows(tmp_path / "dot.png") == [[GREEN]]


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "floats.tif")
    with pytest.raises(PictureError, match="no agreed white"):
        read_picture(tmp_path / "floats.tif")


def test_a_picture_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "vast.png")
    for limit in (300, 100):  # Pillow warns above its limit and raises above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(PictureError, match="pixels"):
            read_picture(tmp_path / "vast.png")


def _noise(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(stream, format=kind)
    return stream.getvalue()


WHOLE = {kind: _noise(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")}


@settings(deadline=None)
@given(kind=st.sampled_from(sorted(WHOLE)), part=st.floats(0, 0.95))
def test_a_picture_cut_anywhere_is_refused(kind: str, part: float, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / f"cut.{kind}"
    path.write_bytes(WHOLE[kind][: int(len(WHOLE[kind]) * part)])
    with pytest.raises(PictureError) as refused:
        read_picture(path)
    assert str(refused.value).isprintable()


@settings(deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8),
)
def test_a_damaged_picture_is_read_or_refused(
    kind: str, changes: list[tuple[int, int]], tmp_path_factory
) -> None:
    data = bytearray(WHOLE[kind])
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(data)
    try:
        assert read_picture(path).mode == "RGB"
    except PictureError as refused:
        assert str(refused).isprintable()


# Folders


def test_samples_are_what_the_folder_holds(tmp_path: Path) -> None:
    entries = make_dataset(tmp_path / "mine")
    entries[0] |= {"id": "first", "response": ["zero", "", "nought"]}
    entries[1] |= {"id": 77, "request": "  Ünïcödé, 画?\n"}
    write_index(tmp_path / "mine", entries)
    samples = load_samples(tmp_path / "mine", count=None, at_most=None)
    assert [sample.id for sample in samples] == ["first", "77", "2"]
    assert samples[0].references == ("zero", "", "nought")
    assert samples[1].request == "  Ünïcödé, 画?\n"
    assert samples[2].references == ("2",)
    assert all(sample.picture.is_file() for sample in samples)


def test_how_many_samples_are_taken(tmp_path: Path) -> None:
    make_dataset(tmp_path / "mine", count=4)

    def ids(count: int | None, at_most: int | None) -> list[str]:
        samples = load_samples(tmp_path / "mine", count=count, at_most=at_most)
        return [sample.id for sample in samples]

    assert ids(None, None) == ["0", "1", "2", "3"]
    assert ids(None, 2) == ids(2, None) == ["0", "1"]
    assert ids(3, 2) == ["0", "1", "2"]
    assert ids(None, 9) == ["0", "1", "2", "3"]
    with pytest.raises(ConfigError, match=r"num_samples=5: .* holds 4 samples"):
        ids(5, None)


def test_what_is_not_asked_for_need_not_be_right(tmp_path: Path) -> None:
    entries = make_dataset(tmp_path / "mine")
    entries[2]["request"] = ""
    write_index(tmp_path / "mine", entries)
    assert len(load_samples(tmp_path / "mine", count=2, at_most=None)) == 2


def test_a_link_inside_the_folder_is_taken(tmp_path: Path) -> None:
    entries = make_dataset(tmp_path / "mine")
    (tmp_path / "mine" / "again.png").symlink_to("pictures/0.png")
    entries[0]["image_path"] = "again.png"
    write_index(tmp_path / "mine", entries)
    (tmp_path / "other").symlink_to("mine")
    assert len(load_samples(tmp_path / "other", count=None, at_most=None)) == 3


def digest(folder: Path) -> str:
    return digest_samples(load_samples(folder, count=None, at_most=None))


def test_the_digest_stays_when_the_folder_is_moved(tmp_path: Path) -> None:
    make_dataset(tmp_path / "mine")
    before = digest(tmp_path / "mine")
    shutil.move(tmp_path / "mine", tmp_path / "elsewhere, with spaces")
    assert digest(tmp_path / "elsewhere, with spaces") == before


def test_the_digest_changes_with_what_is_in_the_folder(tmp_path: Path) -> None:
    make_dataset(tmp_path / "mine")
    folder = tmp_path / "mine"
    seen = {digest(folder)}
    for key, value in (("request", "why?"), ("response", ["a", "b"]), ("id", "x")):
        entries = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        entries[0][key] = value
        write_index(folder, entries)
        seen.add(digest(folder))
    Image.new("RGB", (32, 24), RED).save(folder / "pictures" / "1.png")
    seen.add(digest(folder))
    assert len(seen) == 5


def test_shipped_folders_are_whole() -> None:
    for name in ("coco", "scienceqa", "textvqa"):
        folder = PROJECT / "datasets" / name
        samples = load_samples(folder, count=None, at_most=None)
        assert len(samples) >= 24
        check_pictures(folder, samples[:24])


# Batches


def sample(number: int) -> Sample:
    return Sample(id=str(number), pictures=(Path("x.png"),), request="?", references=("",))


@settings(deadline=None)
@given(count=st.integers(1, 40), size=st.integers(1, 20))
def test_batches(count: int, size: int) -> None:
    samples = [sample(number) for number in range(count)]
    assert [one for batch in batches(samples, size) for one in batch] == samples
    full = full_batches(samples, size)
    assert full and all(len(batch) == size for batch in full)
    taken = [one for batch in full for one in batch]
    whole = count // size * size
    assert taken == (samples[:whole] if whole else [samples[i % count] for i in range(size)])
