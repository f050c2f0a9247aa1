"""What a worker is made of, from a state of its deployment: topics, models, and the plan by which it scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from models.bundle import Bundle
from models.errors import ModelError
from models.profiler import Profiler, Profilers
from models.reference import Reference
from models.repository import Repository
from models.runtimes.base import Model
from models.runtimes.partitioned import counts_of
from schemas.control import Running, State
from schemas.deployment import ACTIVE, Deployment
from schemas.errors import SourceUnavailable
from schemas.sources import SchemaTopic
from streams.assembly import Assembly, assemble, writers_of
from streams.budget import Budget
from streams.deadletters import LetterLimit
from streams.errors import Refused
from streams.haste import Haste
from streams.options import Options
from streams.pace import Pace, Slowdown, measure
from streams.pool import Pool
from streams.residence import resident_bytes
from streams.sampler import Sampler, sampler_of
from streams.site import Site, site_of
from streams.sizing import first_events
from streams.swaps import Starts
from streams.topics import Topics, message_limit
from streams.work import Composer, Plan

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 60.0  # that a start waits for the schema topic


@dataclass(frozen=True, slots=True)
class Wanted:
    """A state of a deployment that is to run.

    pins: of a state of control, the version and the digest of each arm's model; none: what the references mean now.
    """

    deployment: Deployment
    reader: Mapping[str, Any]
    revision: int
    pins: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    paused: bool = False

    @classmethod
    def declared(cls, deployment: Deployment, reader: Mapping[str, Any]) -> Wanted:
        """Return what a file declares."""
        return cls(deployment, reader, deployment.revision(reader))

    @classmethod
    def of_state(cls, state: State) -> Wanted:
        """Return what control asks for. Raises RecordInvalid for what this release cannot read."""
        deployment, reader = state.content()
        pins = {arm.name: (arm.pinned, arm.digest) for arm in state.arms}
        return cls(deployment, reader, state.revision, pins, state.paused)


@dataclass(frozen=True, slots=True)
class Built:
    """A state that can run. arms: what its workers score with, by the arms' names."""

    wanted: Wanted
    site: Site
    assembly: Assembly
    plan: Plan
    arms: tuple[Running, ...]


class Builder:
    """Builds states of one arm's workers. arm: its name. slot: set once it is known; told where a state begins."""

    def __init__(self, arm: str, options: Options, topics: Topics, stopping: Callable[[], bool]) -> None:
        self.arm, self._options, self._topics, self._stopping = arm, options, topics, stopping
        self._schemas = SchemaTopic(options.kafka)
        self._writers = writers_of(self._schemas, options.registry, options.schema_folder)
        self._repository = Repository(options.repository)
        self._pool = Pool()
        self._sites: dict[object, Site] = {}
        self._findable: set[str] = set()  # fingerprints of schemas that were published
        self._paces: WeakKeyDictionary[Model, Pace | None] = WeakKeyDictionary()
        self._fresh = True  # nothing was scored yet, so that what this process has is what any would
        self._known: tuple[Built, ...] = ()  # states whose models are loaded
        self.slot = options.slot

    def build(self, wanted: Wanted) -> Built:
        """Return the state, ready to score. Raises Refused, or an error of models or schemas, which say why not."""
        deployment = wanted.deployment
        deployment.arm(self.arm)  # refuses one that has no workers
        site = self._site(deployment, controlled=bool(wanted.pins))
        known = self._assembled_before(wanted)
        bundles = known.bundles if known else self._bundles(wanted)
        profilers = self._profilers(deployment, bundles)
        assembly = known or self._assembled(wanted, bundles)
        if assembly.codec.fingerprint not in self._findable:
            make_findable(self._schemas, assembly.codec.schema, self._stopping)
            self._findable.add(assembly.codec.fingerprint)
        arms = tuple(running(name, bundle) for name, bundle in bundles.items())
        sampler = self._sampler(wanted, assembly, bundles, site)
        starts = None
        if site.swaps is not None:
            starts = Starts(site.swaps.name, deployment.name, wanted.revision, arms, lambda: self.slot)
        self._refuse_small(deployment)
        slowdowns = self._slowdowns(assembly, bundles)
        haste, paces = Haste(assembly.models.values()), {name: each.pace for name, each in slowdowns.items()}
        everywhere = deployment.everywhere if self.arm == ACTIVE else []
        plan = Plan(
            assembly.scorer(site.output, self.arm, slowdowns, haste),
            Composer(site.route(deployment.name), profilers, starts, sampler=sampler),
            LetterLimit(deployment.limits.dead_letters_per_minute, time.monotonic),
            Budget(deployment.latency_ms / 1000, self._options.batch_events) if deployment.latency_ms else None,
            wanted.paused,
            wanted.revision,
            {name: (model.name, model.version) for name, model in assembly.models.items()},
            partial(counts_of, tuple(assembly.models.values())),
            deployment.quotas,
            slowdowns,
            first_events=first_events(paces, assembly.shares(self.arm), everywhere),
            haste=haste,
        )
        self._fresh = False
        return Built(wanted, site, assembly, plan, arms)

    def keep(self, *states: Built) -> None:
        """Let go of the models of all other states."""
        self._known = states
        self._pool.keep(model for state in states for model in state.assembly.models.values())

    def stale(self, built: Built) -> bool:
        """Say whether a declared reference means another version by now; not while the repository cannot tell."""
        if built.wanted.pins:
            return False
        refs, bundles = built.wanted.deployment.models(self.arm), built.assembly.bundles
        try:
            return any(self._repository.resolve(ref).digest != bundles[name].digest for name, ref in refs.items())
        except ModelError:
            return False

    def close(self) -> None:
        """Let go of models and clients."""
        self._pool.close()
        self._schemas.close()

    def _bundles(self, wanted: Wanted) -> dict[str, Bundle]:
        return {name: self._bundle(wanted, name, ref) for name, ref in wanted.deployment.models(self.arm).items()}

    def _assembled(self, wanted: Wanted, bundles: Mapping[str, Bundle]) -> Assembly:
        alike = (each.assembly.decoder.again() for each in self._known if _reads_the_same(each, wanted))
        args = wanted.deployment, wanted.reader, bundles, self._writers, self._pool, wanted.revision
        return assemble(*args, next(alike, None))

    def _assembled_before(self, wanted: Wanted) -> Assembly | None:
        """Return a state whose models are loaded under its new revision, None where there is none.

        So a way back takes no longer than a batch, however large the models are.
        """
        for each in self._known:
            if wanted.pins and replace(each.wanted, revision=wanted.revision, paused=wanted.paused) == wanted:
                known = each.assembly
                return replace(known, revision=wanted.revision, decoder=known.decoder.again())
        return None

    def _site(self, deployment: Deployment, *, controlled: bool) -> Site:
        """Return the site; the brokers are asked once about topics that stay the same, so that a way back is quick."""
        declared = (deployment.name, deployment.input.topic, deployment.input.start, deployment.delivery)
        beside = tuple(deployment.everywhere)
        watched = (deployment.monitor is None, deployment.sampling and deployment.sampling[1])
        key = (*declared, deployment.output_topic(self.arm), *watched, controlled, beside)
        if key not in self._sites:
            self._sites[key] = site_of(deployment, self.arm, self._options, self._topics, controlled=controlled)
        return self._sites[key]

    def _bundle(self, wanted: Wanted, name: str, ref: str) -> Bundle:
        if name in wanted.pins:
            return self._repository.load_pinned(*wanted.pins[name])
        return self._repository.load(ref)

    def _slowdowns(self, assembly: Assembly, bundles: Mapping[str, Bundle]) -> dict[str, Slowdown]:
        """Return the slow-downs of the arms' models; each model is timed before it scores, and never again."""
        found = {}
        for name, bundle in bundles.items():
            model = assembly.models[name]
            if model not in self._paces:
                self._paces[model] = measure(
                    model,
                    bundle.manifest,
                    assembly.decoder.columns,
                    self._options.batch_events,
                    assembly.deployment.limits.model_seconds,
                )
            if (pace := self._paces[model]) is not None:
                found[name] = Slowdown(pace)
        return found

    def _refuse_small(self, deployment: Deployment) -> None:
        """Raise Refused where a process that has scored nothing is over its quota: it would be started for ever."""
        quota, found = deployment.quotas.memory, resident_bytes()
        if self._fresh and quota is not None and found is not None and found > quota:
            raise Refused(
                f"quotas.memory of deployment {deployment.name} is {quota >> 20} MiB, but a slot has {found >> 20} MiB "
                "once its models are loaded, before it scores anything: raise it, to twice as much for a start"
            )

    def _profilers(self, deployment: Deployment, bundles: Mapping[str, Bundle]) -> Profilers | None:
        """Return what counts the rows of each arm in the bins of its own reference."""
        if deployment.monitor is None:
            return None
        found = {}
        for name, bundle in bundles.items():
            manifest = bundle.manifest
            if bundle.reference is not None:
                reference = Reference.from_bytes(bundle.reference)
                found[name] = Profiler(
                    reference, deployment=deployment.name, arm=name, model=manifest.name, version=manifest.version
                )
                continue
            text = f"bundle {manifest.ref} has no reference profile"
            if name == self.arm:
                raise Refused(
                    f"deployment {deployment.name} declares a monitor, but {text}: build the bundle with one, or "
                    "remove `monitor`"
                )
            log.warning("%s; the arm %s is not watched", text, name)
        return Profilers(found)

    def _sampler(self, wanted: Wanted, assembly: Assembly, bundles: Mapping[str, Bundle], site: Site) -> Sampler | None:
        """Return what samples for the join with labels. Segments that are numbers have the bins of the arm's model."""
        if site.samples is None:
            return None
        found = bundles[self.arm].reference
        return sampler_of(
            wanted.deployment,
            self.arm,
            wanted.revision,
            next(iter(assembly.models.values())).outputs,
            assembly.decoder.columns,
            Reference.from_bytes(found) if found is not None else None,
            message_limit([site.samples]),
        )


def running(name: str, bundle: Bundle) -> Running:
    """Return what an arm's status says of its version."""
    manifest, until = bundle.manifest, bundle.manifest.training.until
    created, trained = (None if each is None else int(each.timestamp() * 1000) for each in (manifest.created, until))
    return Running(name, manifest.name, manifest.version, bundle.digest, created, trained)


def _reads_the_same(built: Built, wanted: Wanted) -> bool:
    """Say whether the events of both states are decoded alike."""
    known, asked = built.wanted.deployment, wanted.deployment
    return (
        built.wanted.reader == wanted.reader
        and (known.input.framing, known.input.checks) == (asked.input.framing, asked.input.checks)
        and known.limits.event_bytes == asked.limits.event_bytes
    )


def make_findable(topic: SchemaTopic, schema: Mapping[str, Any], stopping: Callable[[], bool]) -> None:
    """Publish the schema of the inferences; a broker that is away is waited for, but not for ever without a word."""
    deadline = time.monotonic() + PUBLISH_SECONDS
    while True:
        try:
            topic.publish(schema)
            return
        except SourceUnavailable as error:
            if stopping():
                return
            if time.monotonic() > deadline:
                raise
            log.error("%s", error)
            time.sleep(1)
