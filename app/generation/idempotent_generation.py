"""Synchronous generation for one HTTP request, which its `Idempotency-Key` makes repeatable.

Images are a function of version, seed and parameters. So of the first answer only these are kept,
with the few fields that do not follow from them; a replay generates the same images again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from fastapi.concurrency import contextmanager_in_threadpool
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive

from app.classification.classifier_cache import ClassifierCache
from app.generation.category_filter import generate_filtered
from app.generation.generate_images import Generated, generate_images
from app.generation.image_links import PublishImages
from app.generation.model_resolver import ModelResolver
from app.generation.sampler import Sampler
from app.schemas import GenerateRequest, Timing
from worker.ledger.idempotency import Reservation, find, keep
from worker.ledger.in_flight import in_flight
from worker.ledger.leases import Leases
from worker.registry.model_versions import ModelCard
from worker.storage import Storage


@dataclass(frozen=True, kw_only=True)
class ImagesWanted:
    """The images that a client has asked for."""

    model: str | None  # reference
    body: bytes  # all that the client has sent, to recognise the same request
    # Checks what is asked for against a version; raises Problem.
    settle: Callable[[ModelCard], Awaitable[GenerateRequest]]


MakeImages = Callable[[ImagesWanted], Awaitable[Generated]]


class FirstAnswer(BaseModel):
    """What the same answer is made from again, beside the request."""

    model: str  # name:version
    seed: int
    id: str
    created: int
    timing: Timing
    urls: list[str] | None

    @classmethod
    def of(cls, generated: Generated) -> "FirstAnswer":
        """What is kept of an answer."""
        return cls(
            model=f"{generated.card.name}:{generated.card.version}",
            seed=generated.seed,
            id=generated.id,
            created=generated.created,
            timing=generated.timing,
            urls=generated.urls,
        )


@dataclass(frozen=True, kw_only=True)
class SynchronousGeneration:
    """Generates images until the client of one HTTP request disconnects."""

    receive: Receive
    resolver: ModelResolver
    sampler: Sampler
    classifiers: ClassifierCache
    publish: PublishImages

    async def make(self, wanted: ImagesWanted) -> Generated:
        """Generate images, with links to them where they are asked for; raises Problem."""
        card = await self.resolver.find(wanted.model)
        request = await wanted.settle(card)
        generated = await self._generate(request, card)
        if request.response_format != "url":
            return generated
        return replace(generated, urls=await run_in_threadpool(self.publish, generated))

    async def repeat(self, wanted: ImagesWanted, first: FirstAnswer) -> Generated:
        """Generate the images of an earlier answer again; raises Problem."""
        card = await self.resolver.find(first.model)
        settled = await wanted.settle(card)
        request = settled.model_copy(update={"seed": first.seed})
        again = await self._generate(request, card)
        return replace(
            again, id=first.id, created=first.created, timing=first.timing, urls=first.urls
        )

    async def _generate(self, request: GenerateRequest, card: ModelCard) -> Generated:
        if request.min_category_probability is None:
            return await generate_images(self.receive, self.sampler, request, card)
        return await generate_filtered(self.receive, self.sampler, self.classifiers, request, card)


@dataclass(frozen=True, kw_only=True)
class FirstAnswers:
    """The answers to requests with an `Idempotency-Key`, under its name."""

    storage: Storage
    leases: Leases
    name: str

    async def make_once(self, generation: SynchronousGeneration, wanted: ImagesWanted) -> Generated:
        """As `SynchronousGeneration.make`, or its answer to the first request with the key.

        Raises:
            KeyReused: the first request was a different one.
            RequestInFlight: the first request is still being answered.
            RedisError: Redis is away, so that this cannot be known.
        """
        first = await self._find(wanted)
        if first is None:
            lease = in_flight(self.leases, self.name, needs_redis=True)
            async with contextmanager_in_threadpool(lease):
                first = await self._find(wanted)
                if first is None:
                    generated = await generation.make(wanted)
                    first = await self._keep(wanted, FirstAnswer.of(generated))
                    if first.id == generated.id:
                        return generated
        return await generation.repeat(wanted, first)

    async def _find(self, wanted: ImagesWanted) -> FirstAnswer | None:
        found = await run_in_threadpool(find, self.storage, self.name, wanted.body)
        return None if found is None else FirstAnswer.model_validate(found.answer)

    async def _keep(self, wanted: ImagesWanted, answer: FirstAnswer) -> FirstAnswer:
        """Keep an answer, unless another process has kept one; returns the one that is kept."""
        mine = Reservation.of(wanted.body, answer.id, answer.model_dump(mode="json"))
        kept = await run_in_threadpool(keep, self.storage, self.name, mine)
        return FirstAnswer.model_validate(kept.answer)
