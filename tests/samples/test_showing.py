"""Samples of several pictures and of clips, and what `num_pictures` and `num_frames` show."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from profiling.errors import ConfigError
from profiling.runs.session import plan_point
from profiling.samples.clips import DEFAULT_FPS, read_frames
from profiling.samples.samples import Sample, check_pictures, digest_samples, load_samples
from profiling.samples.showing import count_frames, count_pictures, load_shown
from tests.composing import compose_config, make_dataset, write_index

Write = Callable[..., list[Sample]]


def level(number: int) -> tuple[int, int, int]:
    return (number * 20, 0, 0)


def write_frames(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (32, 24), level(number)).save(folder / f"frame{number}.png")


def write_animation(path: Path, count: int, **options: Any) -> None:
    frames = [Image.new("RGB", (32, 24), level(number)) for number in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """The only sample of a folder, with these values in its entry."""
    make_dataset(tmp_path / "own", count=3)

    def make(**values: Any) -> list[Sample]:
        write_index(tmp_path / "own", [{"request": "what?", "response": "it", **values}])
        samples = load_samples(tmp_path / "own", count=None, at_most=None)
        check_pictures(tmp_path / "own", samples)
        return samples

    return make


def show(folder: Path, **asked: Any) -> list[Sample]:
    given = {"count": None, "at_most": None, "num_pictures": None, "num_frames": None, "seed": 0}
    return load_shown(folder, **(given | asked))


# Several pictures


def test_a_list_of_pictures_keeps_its_order(write: Write) -> None:
    (sample,) = write(image_path=["pictures/2.png", "pictures/0.png", "pictures/2.png"])
    assert [path.name for path in sample.pictures] == ["2.png", "0.png", "2.png"]
    assert (sample.asked_picture, sample.clip) == (None, None)
    assert count_pictures([sample]) == 3


def test_a_list_of_one_picture_is_one_picture(write: Write) -> None:
    plain, listed = (write(image_path=path) for path in ("pictures/0.png", ["pictures/0.png"]))
    assert plain == listed
    assert digest_samples(plain) == digest_samples(listed)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"image_path": []}, r"image_path is \[\]; allowed is at least one path"),
    ({"image_path": ["pictures/0.png", "no.png"]}, "no.png: there is no such regular file"),
    ({"image_path": ["pictures/0.png", 3]}, "image_path is 3; allowed is a path in the folder"),
    ({"image_path": ["pictures/0.png", "../x.png"]}, "image_path ../x.png leaves the folder"),
    ({}, "image_path is None"),
    ({"video_path": "nowhere"}, "nowhere: there is no such folder or file"),
    ({"video_path": ["a", "b"]}, r"video_path is \['a', 'b'\]; allowed is a path"),
    ({"video_path": "/tmp"}, "video_path /tmp leaves the folder"),
    ({"video_path": "empty"}, "empty: there are no frames in it"),
    ({"video_path": "single"}, "single: it has one frame; a clip has at least 2"),
    ({"video_path": "still.gif"}, "still.gif: it has one frame; a clip has at least 2"),
    ({"video_path": "pictures/0.png"}, "0.png: it has one frame"),
    ({"video_path": "text.gif"}, "text.gif: not a complete picture"),
    ({"video_path": "torn"}, "frame1.png: not a complete picture"),
    ({"video_path": "uneven"}, "frame1.png is 8x8 pixels, and the first frame is 32x24"),
    ({"video_path": "clip", "fps": 0}, "fps is 0; allowed is a number from 0.001 to 1000"),
    ({"video_path": "clip", "fps": "2"}, "fps is '2'; allowed is a number from 0.001 to 1000"),
    ({"video_path": "clip", "fps": 10**400}, "fps is 1000.*; allowed is a number from"),
    ({"video_path": "clip", "fps": 1e-300}, "fps is 1e-300; allowed is a number from"),
    ({"video_path": "clip", "image_path": "pictures/0.png"}, "allowed is one of them"),
]


@pytest.mark.parametrize(("values", "line"), BROKEN)
def test_what_is_broken_is_named(
    values: dict[str, Any], line: str, write: Write, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "empty").mkdir()
    (own / "empty" / "notes.txt").write_text("no frame")
    write_frames(own / "single", 1)
    for name in ("clip", "torn", "uneven"):
        write_frames(own / name, 3)
    (own / "torn" / "frame1.png").write_bytes((own / "torn" / "frame1.png").read_bytes()[:40])
    Image.new("RGB", (8, 8)).save(own / "uneven" / "frame1.png")
    write_animation(own / "still.gif", 1)
    (own / "text.gif").write_text("no picture")
    with pytest.raises(ConfigError, match=line) as caught:
        write(**values)
    assert "\n" not in str(caught.value) and "sample 0: " in str(caught.value)


def test_a_frame_outside_of_the_folder_is_refused(write: Write, tmp_path: Path) -> None:
    write_frames(tmp_path / "own" / "clip", 2)
    Image.new("RGB", (32, 24)).save(tmp_path / "outside.png")
    (tmp_path / "own" / "clip" / "frame9.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(ConfigError, match="leaves the folder"):
        write(video_path="clip")


# Clips


def reds(sample: Sample) -> list[int]:
    assert sample.clip is not None
    return [frame.getpixel((0, 0))[0] for frame in read_frames(sample.clip)]


def test_frames_of_a_folder_come_by_the_numbers_in_their_names(
    write: Write, tmp_path: Path
) -> None:
    write_frames(tmp_path / "own" / "clip", 12)
    (sample,) = write(video_path="clip")
    assert reds(sample) == [number * 20 for number in range(12)]
    assert sample.clip is not None and sample.clip.fps == DEFAULT_FPS
    assert (count_pictures([sample]), count_frames([sample])) == (None, 12)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_frames_of_an_animated_file(kind: str, write: Write, tmp_path: Path) -> None:
    lossless = {"lossless": True} if kind == "webp" else {}
    write_animation(tmp_path / "own" / f"clip.{kind}", 5, duration=250, **lossless)
    (sample,) = write(video_path=f"clip.{kind}")
    assert reds(sample) == [0, 20, 40, 60, 80]
    assert sample.clip is not None and sample.clip.fps == pytest.approx(4)
    (named,) = write(video_path=f"clip.{kind}", fps=10)
    assert named.clip is not None and named.clip.fps == 10


def test_frames_are_taken_evenly(write: Write, tmp_path: Path) -> None:
    write_frames(tmp_path / "own" / "clip", 9)
    write(video_path="clip", fps=3)
    for count, expected in ((1, [0]), (3, [0, 60, 120]), (4, [0, 40, 80, 120])):
        (sample,) = show(tmp_path / "own", num_frames=count)
        assert reds(sample) == expected
        # The same seconds, in fewer frames.
        assert sample.clip is not None and count / sample.clip.fps == pytest.approx(3)


def test_more_frames_than_the_clip_has_are_refused(write: Write, tmp_path: Path) -> None:
    write_frames(tmp_path / "own" / "clip", 3)
    write(video_path="clip")
    with pytest.raises(ConfigError, match=r"^num_frames=4: the clip of sample 0 has 3 frames$"):
        show(tmp_path / "own", num_frames=4)


def test_a_picture_makes_a_still_clip(write: Write, tmp_path: Path) -> None:
    write(image_path="pictures/2.png")
    (sample,) = show(tmp_path / "own", num_frames=3)
    assert sample.pictures == () and reds(sample) == [80, 80, 80]
    assert sample.clip is not None and sample.clip.fps == DEFAULT_FPS


def test_what_cannot_be_a_clip_is_refused(write: Write, tmp_path: Path) -> None:
    write(image_path=["pictures/0.png", "pictures/1.png"])
    with pytest.raises(ConfigError, match=r"^num_frames=2: sample 0 has several pictures"):
        show(tmp_path / "own", num_frames=2)
    write(image_path="pictures/0.png")
    with pytest.raises(ConfigError, match=r"^num_frames=2: allowed is null beside num_pictures=3"):
        show(tmp_path / "own", num_frames=2, num_pictures=3)


# More pictures than a sample has


@pytest.fixture
def own(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "many", count=8)
    return tmp_path / "many"


@pytest.mark.parametrize("count", [2, 5, 8])
def test_other_pictures_stand_around_the_one_that_is_asked_about(own: Path, count: int) -> None:
    plain = load_samples(own, count=None, at_most=None)
    shown = show(own, num_pictures=count)
    for before, after in zip(plain, shown, strict=True):
        assert len(set(after.pictures)) == len(after.pictures) == count
        assert after.asked_picture is not None
        assert after.pictures[after.asked_picture - 1] == before.picture
        asked = f"About picture {after.asked_picture} of {count}: "
        assert after.request == asked + before.request
        assert (after.id, after.references) == (before.id, before.references)
    assert len({sample.asked_picture for sample in shown}) > 1


def test_the_seed_alone_decides_which(own: Path) -> None:
    assert show(own, num_pictures=3) == show(own, num_pictures=3)
    assert show(own, num_pictures=3, at_most=2) == show(own, num_pictures=3)[:2]
    assert show(own, num_pictures=3, seed=1) != show(own, num_pictures=3)
    for few, more in zip(show(own, num_pictures=3), show(own, num_pictures=6), strict=True):
        assert set(few.pictures) < set(more.pictures)


def test_one_picture_is_as_it_was(own: Path) -> None:
    assert show(own, num_pictures=1) == show(own)


def test_a_sample_with_several_keeps_them_in_front(own: Path) -> None:
    entry = {"image_path": ["pictures/0.png", "pictures/1.png"], "request": "same?"}
    others = [{"image_path": f"pictures/{n}.png", "request": "what?"} for n in range(8)]
    write_index(own, [{**one, "response": "it"} for one in (entry, *others)])
    first, second, *_ = show(own, num_pictures=4)
    assert [path.name for path in first.pictures[:2]] == ["0.png", "1.png"]
    assert (first.request, first.asked_picture) == ("About pictures 1 to 2 of 4: same?", None)
    assert second.asked_picture is not None
    with pytest.raises(ConfigError, match=r"^num_pictures=1: sample 0 asks about its 2 pictures$"):
        show(own, num_pictures=1)


def test_more_pictures_than_there_are_is_refused(own: Path) -> None:
    with pytest.raises(ConfigError, match=r"^num_pictures=9: the data set has 7 pictures besides"):
        show(own, num_pictures=9)


def test_a_clip_has_no_other_pictures(own: Path) -> None:
    write_frames(own / "clip", 2)
    write_index(own, [{"video_path": "clip", "request": "what?", "response": "it"}])
    with pytest.raises(ConfigError, match=r"^num_pictures=2: sample 0 has a clip"):
        show(own, num_pictures=2)


# Addresses


def plan(own: Path, *overrides: str) -> Any:
    return plan_point(compose_config("profiler=quick", f"dataset.folder={own}", *overrides))


def test_the_same_samples_have_one_address(own: Path, tmp_path: Path) -> None:
    plain = plan(own, f"results_dir={tmp_path}")
    assert plain.fingerprint == plan(own, f"results_dir={tmp_path}", "num_pictures=1").fingerprint
    assert "num_pictures" not in plain.point.as_config()
    assert "num_frames" not in plain.point.as_config()
    assert plain.point.as_columns()["num_pictures"] == 1
    several = [
        plan(own, f"results_dir={tmp_path}", *one)
        for one in (["num_pictures=2"], ["num_pictures=2", "seed=1"], ["num_frames=2"])
    ]
    assert len({one.fingerprint for one in (plain, *several)}) == 4
    assert several[0].point.as_config()["num_pictures"] == 2


def test_all_frames_by_number_are_all_frames(own: Path, tmp_path: Path) -> None:
    write_frames(own / "clip", 4)
    write_index(own, [{"video_path": "clip", "request": "what?", "response": "it"}])
    asked = [plan(own, f"results_dir={tmp_path}", f"num_frames={n}") for n in ("null", 4, 2)]
    assert asked[0].fingerprint == asked[1].fingerprint != asked[2].fingerprint


def test_the_digest_covers_every_frame(write: Write, tmp_path: Path) -> None:
    seen = set()
    write_frames(tmp_path / "own" / "clip", 3)
    for fps in (2, 3):
        seen.add(digest_samples(write(video_path="clip", fps=fps)))
    Image.new("RGB", (32, 24), level(9)).save(tmp_path / "own" / "clip" / "frame2.png")
    seen.add(digest_samples(write(video_path="clip", fps=3)))
    seen.add(digest_samples(show(tmp_path / "own", num_frames=2)))
    shutil.move(tmp_path / "own", tmp_path / "moved")
    moved = load_samples(tmp_path / "moved", count=None, at_most=None)
    assert digest_samples(moved) in seen and len(seen) == 4


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1025", "many"])
@pytest.mark.parametrize("key", ["num_pictures", "num_frames"])
def test_other_numbers_are_refused(key: str, value: str, own: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{key}={value}"):
        plan(own, f"{key}={value}")
