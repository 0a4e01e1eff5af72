"""The engine `endpoint`: points run by a server with an OpenAI-compatible interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import PIL.Image

from profiling.engines.endpoint.answer import Answer
from profiling.engines.endpoint.chat import Chat, Dialect, negotiate
from profiling.engines.endpoint.client import Client
from profiling.engines.endpoint.failures import EndpointError
from profiling.engines.endpoint.local_process import ServerMemory, ServerProcess, find_server
from profiling.engines.endpoint.observed import Observed
from profiling.engines.endpoint.picture_check import Pictures, check_pictures
from profiling.engines.endpoint.pictures import PictureSender, SentPicture
from profiling.engines.endpoint.question_tokens import QuestionTokens
from profiling.engines.endpoint.server import Prefixes, Server, identify
from profiling.engines.endpoint.settings import read_key
from profiling.engines.engine import Engine, Footprint, Loading, Passes, Row
from profiling.engines.trace import Clock, HostClock, Trace
from profiling.errors import Unsupported
from profiling.points.options import list_families
from profiling.points.point import Point
from profiling.records import ESTIMATED, Reading, reading, unavailable
from profiling.samples.pictures import read_picture
from profiling.samples.samples import Sample

CLOCK = "perf_counter_ns at the client, when the tokens arrive"
_INSIDE = "happens inside the server, which shows no border of it: it is a part of ttft_s"
BLIND = {
    "transfer": "pictures are sent with the request: it is a part of ttft_s",
    **dict.fromkeys(("vision", "projector", "prefill"), _INSIDE),
}
NO_LIKELIHOOD = (
    "the chat interface gives log-probabilities of tokens that the server chose, and none of a"
    " reference"
)
_BASELINE = ("baseline",)
_CHECKED_PICTURES = 9
_CHECKED_TOKENS = 16
_SAMPLE_SIDE = 224


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sample with its pictures read and its question fitted."""

    pictures: tuple[PIL.Image.Image, ...]
    question: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The requests of a batch, and the pictures in each of them."""

    chats: Sequence[Chat]
    pictures: Sequence[Sequence[SentPicture]]


@dataclass(kw_only=True)
class EndpointEngine(Engine):
    """A server that has been asked what it is and what it understands."""

    client: Client
    server: Server
    dialect: Dialect
    prefixes: Prefixes
    process: ServerProcess
    questions: QuestionTokens
    sender: PictureSender
    moments: Clock
    seen: Observed = field(default_factory=Observed)
    blind = BLIND
    has_values = True
    not_loaded = "the server had loaded the model before"
    _pool: ThreadPoolExecutor | None = None
    _pool_size: int = 0

    @classmethod
    def check(cls, point: Point) -> None:
        if point.model not in list_families():
            raise Unsupported(
                f"model={point.model}: only the checkpoint's own processor knows its picture sizes;"
                " name the model that the server is most like"
            )
        if point.optimization != _BASELINE:
            asked = "+".join(point.optimization)
            raise Unsupported(
                f"optimization={asked}: how the model runs is up to the server; start it so, and"
                " measure it with optimization=baseline"
            )
        if point.weights == "random":
            raise Unsupported(
                "weights=random: the weights are those of the server; weights=pretrained has the"
                " picture sizes of the public checkpoint"
            )

    @classmethod
    def check_samples(cls, point: Point, samples: Sequence[Sample]) -> None:
        if any(sample.clip for sample in samples):
            raise Unsupported(
                "engine=endpoint: a clip has no place in the chat interface that servers share;"
                " image_path takes a list of frames as pictures"
            )

    @classmethod
    def predict_bytes(cls, point: Point) -> int | None:
        # The server has the weights.
        return 0

    @classmethod
    def load(cls, point: Point) -> Self:
        settings = point.engine_settings
        clock = HostClock(CLOCK)
        client = Client(settings, key=read_key(settings["api_key_env"]), clock=clock)
        sender = PictureSender.from_settings(settings)
        try:
            dialect = negotiate(client, _sample_chat(sender))
            server = identify(client)
            questions = QuestionTokens(client)
        except BaseException:
            client.close()
            raise
        fresh = settings["fresh_prefixes"]
        return cls(
            client=client,
            server=server,
            dialect=dialect,
            prefixes=Prefixes(client=client, server=server, fresh=fresh),
            process=find_server(client.url),
            questions=questions,
            sender=sender,
            moments=clock,
        )

    @classmethod
    def is_out_of_memory(cls, error: Exception) -> bool:
        """The server's own word for it."""
        return isinstance(error, EndpointError) and "out of memory" in str(error).lower()

    # From samples to answers

    def prepare(self, samples: Sequence[Sample], prompt_len: int | None) -> list[Prepared]:
        return [
            Prepared(
                pictures=tuple(read_picture(path) for path in sample.pictures),
                question=sample.request
                if prompt_len is None
                else self.questions.fit(sample.request, prompt_len),
            )
            for sample in samples
        ]

    def encode(self, batch: Sequence[Prepared], img_size: int | None) -> Inputs:
        assert img_size is not None
        pictures = [
            [self.sender.send(picture, img_size) for picture in item.pictures] for item in batch
        ]
        return Inputs(
            chats=[
                Chat(question=item.question, pictures=tuple(one.uri for one in sent))
                for item, sent in zip(batch, pictures, strict=True)
            ],
            pictures=pictures,
        )

    def generate(
        self, inputs: Inputs, *, length: int, exact: bool, trace: Trace | None
    ) -> list[Answer]:
        answers = self._ask_all(inputs.chats, length=length, exact=exact)
        self.seen.add(answers, length=length, exact=exact)
        if trace is not None:
            for row, answer in enumerate(answers):
                for mark in answer.marks:
                    trace.tokens(mark.tokens, row=row, moment=mark.moment)
        return answers

    def _ask_all(self, chats: Sequence[Chat], *, length: int, exact: bool) -> list[Answer]:
        """All requests of a batch at once, each in a thread of its own."""

        def ask(chat: Chat) -> Answer:
            fields = self.prefixes.fields()
            return self.dialect.ask(self.client, chat, length=length, exact=exact, more=fields)

        if len(chats) == 1:
            return [ask(chats[0])]
        return list(self._threads(len(chats)).map(ask, chats))

    def _threads(self, count: int) -> ThreadPoolExecutor:
        """At least so many threads, kept from batch to batch."""
        if self._pool is None or count > self._pool_size:
            self._close_pool()
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="request")
            self._pool_size = count
        return self._pool

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None

    def describe(
        self, batch: Sequence[Prepared], inputs: Inputs, generated: Sequence[Answer] | None
    ) -> list[Row]:
        answers: Sequence[Answer | None] = generated or [None] * len(batch)
        return [
            Row(
                prompt=item.question,
                answer=None if answer is None else answer.text.strip(),
                num_question_tokens=self.questions.count(item.question),
                num_prompt_tokens=None if answer is None else answer.prompt_tokens,
                num_visual_tokens=None,
                num_new_tokens=None if answer is None else answer.num_tokens,
                image_width=width,
                image_height=height,
            )
            for item, (width, height), answer in zip(
                batch, map(_common_size, inputs.pictures), answers, strict=True
            )
        ]

    def tokens(self, generated: Sequence[Answer]) -> list[list[int]]:
        raise Unsupported("the chat interface gives text and no token ids")

    def reference_nlls(
        self, inputs: Inputs, references: Sequence[str], length: int
    ) -> list[float | None]:
        raise Unsupported(NO_LIKELIHOOD)

    # What probes ask

    @property
    def counted(self) -> tuple[str, str]:  # type: ignore[override]
        return self.seen.counted

    def clock(self) -> Clock:
        return self.moments

    def footprint(self) -> Footprint:
        process = self.process
        uuid = process.gpu_uuid
        return Footprint(
            pids=process.pids,
            device=process.device,
            gpu_uuid=uuid,
            dtype=None,
            computes_in=None,
            model_bytes=None,
            accelerator=None if uuid is None else ServerMemory(uuid=uuid, pids=process.pids),
            shared=process.reason,
        )

    def begin_pass(self) -> None:
        self.prefixes.renew()

    def readings(self, workload: Passes, loading: Loading) -> Iterator[Reading]:
        yield from self.seen.readings(
            server=self.server,
            exact=self.dialect.exact,
            kept_out=self.prefixes.way,
            num_repeated=self.client.num_repeated,
        )
        yield self._picture_effect(workload)
        # The next point that this server runs starts to count again.
        self.seen, self.client.num_repeated = Observed(), 0

    def _picture_effect(self, workload: Passes) -> Reading:
        def ask(chat: Chat) -> Answer:
            more = {**self.dialect.logprobs, **self.prefixes.fields()}
            return self.dialect.ask(
                self.client, chat, length=_CHECKED_TOKENS, exact=False, more=more
            )

        question, pictures = _first_pictures(workload, _CHECKED_PICTURES)
        effect = check_pictures(ask, question, pictures)
        if effect is None:
            reason = "all samples have one picture: there is no other to compare its answer with"
            return unavailable("picture_effect", reason)
        return reading(
            metric="picture_effect",
            value=effect.share,
            status=ESTIMATED,
            source=effect.describe(),
        )

    def close(self) -> None:
        self._close_pool()
        self.client.close()


def _common_size(pictures: Sequence[SentPicture]) -> tuple[int | None, int | None]:
    """The size that all pictures of a request have; None where they differ."""
    sizes = {(picture.width, picture.height) for picture in pictures}
    return sizes.pop() if len(sizes) == 1 else (None, None)


def _first_pictures(workload: Passes, count: int) -> tuple[str, list[Pictures]]:
    """The first question of a workload, and the pictures of so many different samples, as sent."""
    question, pictures = "", dict[Pictures, None]()
    for index in range(len(workload.batches)):
        inputs: Inputs = workload.encode(index)
        question = question or inputs.chats[0].question
        pictures |= dict.fromkeys(chat.pictures for chat in inputs.chats)
        if len(pictures) >= count:
            break
    return question, list(pictures)[:count]


def _sample_chat(sender: PictureSender) -> Chat:
    """A question that is short to answer, about a picture of one colour."""
    picture = PIL.Image.new("RGB", (_SAMPLE_SIDE, _SAMPLE_SIDE), (200, 60, 40))
    sent = sender.send(picture, _SAMPLE_SIDE)
    return Chat(question="What colour is this? One word.", pictures=(sent.uri,))


ENGINE = EndpointEngine
