"""The typed description of one run, and the address that its fingerprint gives it.

A key of the command line is one field here and one line of `conf/config.yaml`. The field declares
what every other place needs to know of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiling import PROJECT
from profiling.points import readers
from profiling.points.address import canonical_json, digest_code, to_json
from profiling.points.key import always, bare, declarations, key, named, nest, never


def _from_project(folder: str) -> str:
    """A folder of the project by its place in it, which is the same on every machine."""
    path = Path(folder)
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else folder


def _has_random_weights(point: Any) -> bool:
    return bool(point.weights == "random")


# The setting of an optimization that looks at samples before it changes a model: how many.
CALIBRATION = "calibration"


def _calibrates(point: Any) -> bool:
    """Whether what is loaded depends on samples."""
    return any(CALIBRATION in settings for settings in point.optimization_settings.values())


def _is_several(number: int | None) -> bool:
    return number not in (None, 1)


def _if_several(name: str, number: int | None) -> str | None:
    return named(name, number) if _is_several(number) else None


def _from_second(name: str, number: int) -> str | None:
    return named(name, number) if number > 1 else None


# Named in a label only where another engine was chosen.
DEFAULT_ENGINE = "torch"


def _name_of(settings: Mapping[str, Any]) -> str:
    return str(settings["name"])


def _last_part(_: str, checkpoint: str | None) -> str | None:
    """The name of a checkpoint without its owner or the folder around it."""
    return None if checkpoint is None else Path(checkpoint).name


def _unless_default(_: str, engine: str) -> str | None:
    return None if engine == DEFAULT_ENGINE else engine


_PROMPT = readers.whole_or_null(
    null="as it is", at_least=readers.SMALLEST_PROMPT, at_most=readers.LONGEST_PROMPT
)
_PICTURES = readers.whole_or_null(
    null="as the samples have them", at_least=1, at_most=readers.MOST_SHOWN
)
_FRAMES = readers.whole_or_null(
    null="as the samples have them", at_least=1, at_most=readers.MOST_SHOWN
)
_ROUND = readers.whole(at_least=1, at_most=readers.MOST_REPEATS)
_BATCH = readers.whole(at_least=1, at_most=readers.LARGEST_BATCH)
_NEW_TOKENS = readers.whole(at_least=1, at_most=readers.MOST_NEW_TOKENS)
_NUM_SAMPLES = readers.whole_or_null(null="all of them", at_least=1)
_LAUNCHES = readers.whole(at_least=1, at_most=readers.MOST_LAUNCHES)
_SEED = readers.whole(at_least=0, at_most=readers.LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run's configuration. Everything that `auto` or null stood for is already resolved.

    The label names values in the order of the fields.
    """

    model: str = field(
        metadata=key(
            "model.name",
            help="the family",
            read=readers.option,
            loads=always,
            label=bare,
            in_summary=True,
        )
    )
    weights: str = field(
        metadata=key(
            "weights",
            help="shipped miniatures, random values at full size, or a checkpoint",
            read=readers.option,
            loads=always,
            in_summary=True,
        )
    )
    checkpoint: str | None = field(
        metadata=key(
            "model.checkpoint",
            help="a hub id or a folder: weights=pretrained loads it, random takes its shape",
            read=readers.checkpoint,
            loads=always,
            by_content=True,
            label=_last_part,
        )
    )
    revision: str | None = field(
        metadata=key("model.revision", read=readers.revision, loads=always, by_content=True)
    )
    prompt: str | None = field(
        metadata=key(
            "model.prompt",
            help="a template with {question}, for a checkpoint without a chat template",
            read=readers.prompt,
            loads=always,
            in_record=readers.is_given,
        )
    )
    public_dtype: str = field(metadata=key("model.dtype", read=readers.dtype, loads=always))
    engine_settings: Mapping[str, Any] = field(
        metadata=key(
            "engine",
            help="what runs the model",
            read=readers.engine,
            loads=always,
            shown=_name_of,
            label=_unless_default,
            in_summary=True,
        )
    )
    optimization_settings: Mapping[str, Mapping[str, Any]] = field(
        metadata=key(
            "optimization",
            help="a change of the model; [a,b] stacks",
            read=readers.stack,
            loads=always,
            shown="+".join,
            label=bare,
            in_summary=True,
        )
    )
    dataset: str = field(
        metadata=key(
            "dataset.name",
            help="the samples, and how answers are judged",
            read=readers.option,
            label=bare,
            in_summary=True,
        )
    )
    dataset_folder: str = field(
        metadata=key(
            "dataset.folder",
            help="own samples in the same layout",
            read=readers.dataset_folder,
            loads=_calibrates,
            plain=_from_project,
            by_content=True,
        )
    )
    headline_reference: str = field(
        metadata=key("dataset.headline_reference", read=readers.judging)
    )
    accuracy: str | None = field(metadata=key("dataset.accuracy", read=readers.judging))
    img_size: int | None = field(
        metadata=key(
            "img_size",
            help="side in pixels of the picture that the model sees",
            read=readers.image_side,
            loads=_calibrates,
            label=named,
            in_summary=True,
        )
    )
    prompt_len: int | None = field(
        metadata=key(
            "prompt_len",
            help="text tokens of the question: longer ones are cut, shorter ones filled up",
            read=_PROMPT,
            label=named,
            in_summary=True,
        )
    )
    num_pictures: int | None = field(
        metadata=key(
            "num_pictures",
            help="pictures that each sample shows: the others are of other samples, by the seed",
            read=_PICTURES,
            in_record=_is_several,
            label=_if_several,
            in_summary=True,
        )
    )
    num_frames: int | None = field(
        metadata=key(
            "num_frames",
            help="frames that are taken of each clip, evenly; a picture makes a still clip",
            read=_FRAMES,
            in_record=readers.is_given,
            label=named,
            in_summary=True,
        )
    )
    round: int = field(
        metadata=key(
            "round",
            help="sweep it to measure every point again after the others",
            read=_ROUND,
            label=_from_second,
        )
    )
    batch_size: int = field(
        metadata=key(
            "batch_size",
            help="samples that are answered at once",
            read=_BATCH,
            label=named,
            in_summary=True,
        )
    )
    max_new_tokens: int = field(
        metadata=key(
            "max_new_tokens",
            help="new tokens that costs are measured at",
            read=_NEW_TOKENS,
            in_summary=True,
        )
    )
    num_samples: int | None = field(
        metadata=key(
            "num_samples", help="samples that are answered", read=_NUM_SAMPLES, in_summary=True
        )
    )
    seed: int = field(
        metadata=key(
            "seed",
            help="of random weights, and of the pictures that num_pictures adds",
            read=_SEED,
            loads=_has_random_weights,
        )
    )
    device: str = field(
        metadata=key(
            "device",
            help="auto, cpu, cuda, cuda:N or mps",
            read=readers.device,
            loads=always,
            in_summary=True,
        )
    )
    threads: int = field(
        metadata=key("threads", help="CPU threads of the model", read=readers.threads, loads=always)
    )
    preload: bool = field(
        metadata=key(
            "preload", help="true: samples are prepared before measuring", read=readers.switch
        )
    )
    profiler: Mapping[str, Any] = field(
        metadata=key("profiler", help="every probe, or the quick ones", read=readers.profiler)
    )
    trace: bool = field(
        metadata=key(
            "trace",
            help="true: one more pass under a profiler, and trace.json beside the record",
            read=readers.switch,
        )
    )
    divergence: bool = field(
        metadata=key(
            "divergence",
            help="true: logits are compared with those of the plain model",
            read=readers.switch,
        )
    )
    results_dir: str = field(
        compare=False, metadata=key("results_dir", help="where records go", read=readers.text)
    )
    resume: bool = field(
        compare=False,
        metadata=key(
            "resume",
            help="false: measure again, and write beside the old records",
            read=readers.switch,
        ),
    )
    strict: bool = field(
        compare=False,
        metadata=key(
            "strict", help="true: refuse to record a run on a busy machine", read=readers.switch
        ),
    )
    share_device: bool = field(
        compare=False,
        metadata=key(
            "share_device",
            help="true: measure although another run measures on the device",
            read=readers.switch,
        ),
    )
    paired: bool = field(
        compare=False,
        metadata=key(
            "paired",
            help="true: each point is also measured in turn with its baseline",
            read=readers.switch,
            in_record=never,
        ),
    )
    launches: int = field(
        compare=False,
        metadata=key(
            "launches",
            help="fresh pairs of processes of a comparison, at least",
            read=_LAUNCHES,
            in_record=never,
        ),
    )
    comparison: Mapping[str, Any] = field(
        compare=False,
        metadata=key(
            "comparison",
            help="how long two points are measured in turn",
            read=readers.comparison,
            in_record=never,
        ),
    )
    tracker: Mapping[str, Any] = field(
        compare=False,
        metadata=key(
            "tracker",
            help="where finished runs are shown as well",
            read=readers.group,
            in_record=never,
        ),
    )
    dry: bool = field(
        compare=False,
        metadata=key(
            "dry",
            help="true: list the points, and measure nothing",
            read=readers.switch,
            in_record=never,
        ),
    )

    @property
    def side(self) -> int:
        """`img_size` of a model whose sizes are known before a checkpoint is read."""
        assert self.img_size is not None
        return self.img_size

    @property
    def engine(self) -> str:
        return _name_of(self.engine_settings)

    @property
    def room(self) -> str:
        """The folder of `profiling/engines/` that runs the point."""
        return str(self.engine_settings["room"])

    @property
    def optimization(self) -> tuple[str, ...]:
        """The names of the optimizations, in the order in which they are applied."""
        return tuple(self.optimization_settings)

    @property
    def load_key(self) -> str:
        """Equal for points that one loaded model can serve."""
        return canonical_json(
            {
                declared.name: getattr(self, one.name)
                for one, declared in declarations(self)
                if declared.loads(self)
            }
        )

    def as_config(self) -> dict[str, Any]:
        """The resolved configuration, in the shape of the command line's keys."""
        return self._record(lambda _: True)

    def _record(self, is_wanted: Callable[[str], bool]) -> dict[str, Any]:
        return nest(
            {
                declared.name: to_json(declared.plain(getattr(self, one.name)))
                for one, declared in declarations(self)
                if declared.in_record(getattr(self, one.name)) and is_wanted(one.name)
            }
        )

    def label(self) -> str:
        """A short name for people."""
        parts = [
            declared.label(declared.name, declared.shown(getattr(self, one.name)))
            for one, declared in declarations(self)
        ]
        return " ".join(part for part in parts if part is not None)

    def as_columns(self) -> dict[str, Any]:
        """The summary columns that the configuration fills."""
        return {
            declared.root: declared.shown(getattr(self, one.name))
            for one, declared in declarations(self)
            if declared.in_summary
        }

    def fingerprint(
        self,
        *,
        machine: Mapping[str, Any],
        versions: Mapping[str, str],
        samples_digest: str,
        weights_digest: str,
    ) -> str:
        """The point's address: equal for the same work on the same kind of machine, and only then.

        Folders count by their content and not by their place, so that a project that was moved
        and a sample folder that was copied keep the address.
        """
        by_value = {
            one.name
            for one, declared in declarations(self)
            if one.compare and not declared.by_content
        }
        facts = {
            "config": self._record(by_value.__contains__),
            "samples": samples_digest,
            "weights": weights_digest,
            "code": digest_code(),
            "machine": machine,
            "versions": dict(versions),
        }
        return hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:16]


def order_for_loading(points: Sequence[Point]) -> list[int]:
    """Positions of the points, arranged so that one loaded model serves all that need it.

    Rounds still come one after another: they exist so that a machine that changes slowly does so
    for every point alike.
    """
    first_seen: dict[str, int] = {}
    for position, point in enumerate(points):
        first_seen.setdefault(point.load_key, position)
    return sorted(
        range(len(points)), key=lambda i: (points[i].round, first_seen[points[i].load_key], i)
    )
