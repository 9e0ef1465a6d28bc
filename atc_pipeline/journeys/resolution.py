"""From what the marketers wrote to what the engine runs: defaults filled in, names checked, conditions compiled.

What belongs here: everything that takes more than one key to decide. What does not: the shape of a single value (``document``),
what an expression means (``dialect``), or any rule about customers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import cache, lru_cache, partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeVar, cast, get_args
from zoneinfo import available_timezones

import polars as pl
from pydantic import BaseModel

from atc_pipeline.journeys import document as written
from atc_pipeline.journeys import portfolio as resolved
from atc_pipeline.journeys.calendar import is_time_zone
from atc_pipeline.journeys.columns import built_in_columns, profile_schema
from atc_pipeline.journeys.content_library import MEDIA, Ground, Library, Sections, resolve_library
from atc_pipeline.journeys.dialect import (
    DialectError,
    compile_condition,
    compile_event_condition,
    compile_number,
    is_pattern,
    nearest,
    shortened,
)
from atc_pipeline.journeys.document import JourneysDocument, parse_document
from atc_pipeline.journeys.kinds import KINDS, PROFILE_TYPES
from atc_pipeline.journeys.measures import Measures
from atc_pipeline.journeys.portfolio import CANDIDATE_TERMS, EVERYONE_ELSE, NONE, SYSTEM, WEEKDAYS, Condition, Portfolio
from atc_pipeline.journeys.problems import MOST_PROBLEMS, JourneysError, Place
from atc_pipeline.journeys.reading import read_beside, read_text
from atc_pipeline.journeys.vocabulary import KEYWORDS
from atc_pipeline.journeys.wording import NOT_BUILT, files_of

Resolved = TypeVar("Resolved")

_OPTION_COLUMNS = frozenset({"journey_id", "score", "ruling", "failed_gates", "rank", "margin"})
"""Columns of an option row besides the terms of its score: a trait of that name could not stand next to them."""
_FEATURES = frozenset({"calendar", "goal", "interests", "predictions", "state"})
"""What a profile remembers beside its traits is kept under these names."""
_FEW = 8
_LEAST_EXPLORED = 0.005
"""Share of choices that must be made by chance for something to be learned of them (SPEC 12)."""


Files = tuple[tuple[str, str], ...]
"""The files that a portfolio names, each with its text."""


def load_portfolio(path: Path, folder: Path | None = None) -> Portfolio:
    """Read and resolve ``journeys.yaml``; raises JourneysError, one line per problem. The same text is resolved once in a process.

    ``folder``: where the files are that it names; its own unless said.
    """
    text = read_text(path)
    return resolve_text(text, path.name, read_files(text, path.name, folder or path.parent))


def read_files(text: str, name: str, folder: Path) -> Files:
    """Read the files that the text of ``journeys.yaml`` names, from its folder; raises JourneysError."""
    document = _parsed(text, name)
    read: dict[str, str] = {}
    problems: list[str] = []
    for place, file in files_of(document.layouts, document.blocks):
        try:
            if file not in read:
                read[file] = read_beside(folder, file) if len(read) < _MOST_FILES else ""
        except JourneysError as problem:
            problems.append(document.problem(place, str(problem)))
    if len(read) > _MOST_FILES:
        problems.append(document.problem(("blocks",), f"more than {_MOST_FILES} files are named"))
    if problems:
        raise JourneysError(problems)
    return tuple(sorted(read.items()))


_MOST_FILES = 500
_parsed = lru_cache(maxsize=4)(parse_document)


@lru_cache(maxsize=16)
def resolve_text(text: str, name: str, files: Files = ()) -> Portfolio:
    """Resolve the text of ``journeys.yaml``, called ``name`` in messages, and of the files it names; raises JourneysError."""
    return resolve(_parsed(text, name), files)


def resolve(document: JourneysDocument, files: Files = ()) -> Portfolio:
    """Resolve a document; raises JourneysError, one line per problem."""
    resolution = _Resolution(document, files)
    portfolio = resolution.portfolio()
    if resolution.problems:
        raise JourneysError(resolution.problems, untold=resolution.untold)
    return portfolio


class _Resolution:
    """One pass over a document that collects problems instead of stopping at the first."""

    def __init__(self, document: JourneysDocument, files: Files) -> None:
        self.document = document
        self.files = dict(files)
        self.problems: list[str] = []
        self.untold = 0
        traits = {id_: _dtype(trait) for id_, trait in document.traits.items()}
        topics = document.interests.topics if document.interests else {}
        ids = {
            "channels": tuple(document.channels),
            "addresses": tuple(id_ for id_, channel in document.channels.items() if channel.to is not None),
            "topics": tuple(topics),
            "intents": tuple(document.intents),
        }
        built_in = profile_schema(**ids, traits={})
        self.built_in = built_in_columns(**ids)
        self.reserved = {*built_in, *CANDIDATE_TERMS, *_OPTION_COLUMNS, *_FEATURES}
        self.profile = {name: dtype for name, dtype in {**built_in, **traits}.items() if name != "date"}
        self.compile = cache(partial(compile_condition, schema=self.profile))  # many journeys share a condition
        self.option = {**self.profile, **CANDIDATE_TERMS}
        self.segments = dict.fromkeys((*document.segments, EVERYONE_ELSE))  # an ordered set
        self.journeys = dict.fromkeys(journey.id for journey in document.journeys)
        self.topics = tuple(topics)
        self.measures = Measures(document.metrics, document.measurement, self)

    def portfolio(self) -> Portfolio:
        """Resolve every section, in the order of the file."""
        document = self.document
        self._check_calendar(document.calendar)
        interests = document.interests
        library = self._library()
        return Portfolio(
            version=document.version,
            timezone=document.calendar.timezone,
            starts_on=document.calendar.starts_on,
            ends_on=document.calendar.ends_on,
            backfill_days=document.calendar.backfill_days,
            blocked=document.identity.blocked,
            channels=tuple(self._channel(id_, channel) for id_, channel in document.channels.items()),
            traits=tuple(self._trait(id_, trait) for id_, trait in document.traits.items()),
            interest_half_life_days=interests.half_life_days if interests else 30.0,
            topics=tuple(
                resolved.Topic(id_, self._signals(("interests", "topics", id_), signals))
                for id_, signals in (interests.topics if interests else {}).items()
            ),
            intents=tuple(
                resolved.Intent(id_, intent.half_life_days, intent.full_at, self._signals(("intents", id_, "signals"), intent.signals))
                for id_, intent in document.intents.items()
            ),
            engagement=self._engagement(),
            predictions=self._predictions(),
            segments=tuple(self._segment(id_, text) for id_, text in document.segments.items()),
            journeys=self._journeys(),
            layouts=library.layouts,
            blocks=library.blocks,
            content=library.content,
            brand=library.brand,
            audiences=tuple(self._audience(id_, audience) for id_, audience in document.audiences.items()),
            publish=self._publish(),
            metrics=self.measures.resolved_metrics(),
            measurement=self.measures.resolved_measurement(),
            paths=_resolved(resolved.Paths, document.paths),
            learning=self._learning(),
            policy=self._policy(document.policy),
        )

    def _library(self) -> Library:
        document = self.document
        if document.writer is not None:
            self.refuse(("writer",), f"is {NOT_BUILT}: leave it out")
        ground = Ground(self.profile, self._nullable(), document.calendar.starts_on, self.refuse, self.known, self._condition)
        return resolve_library(Sections(document.brand, document.layouts, document.blocks, document.content, self.files), ground)

    def _nullable(self) -> frozenset[str]:
        """Return the columns of the profile that can be empty."""
        traits = {id_ for id_, trait in self.document.traits.items() if KINDS[trait.kind].is_nullable}
        return frozenset({name for name, column in self.built_in.items() if column.is_nullable} | traits)

    def refuse(self, place: Place, message: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(self.document.problem(place, message))
        else:
            self.untold += 1

    def _compile(self, place: Place, text: str, compiler: Callable[[str], Condition]) -> Condition:
        try:
            return compiler(text)
        except DialectError as error:
            self.refuse(place, str(error))
            return Condition(text, pl.lit(None), {})

    def _condition(self, place: Place, text: str | None) -> Condition | None:
        return None if text is None else self._compile(place, text, self.compile)

    def known(self, place: Place, noun: str, name: str, valid: Collection[str]) -> None:
        if name not in valid:
            is_told = len(self.problems) < MOST_PROBLEMS  # looking for the nearest of 3,000 names takes a while
            hint = is_told and (nearest(name, valid) or (f"; there are {', '.join(valid)}" if 0 < len(valid) <= _FEW else ""))
            self.refuse(place, f"unknown {noun} '{shortened(name)}'{hint}")

    def all_known(self, place: Place, noun: str, names: Sequence[str], valid: Collection[str]) -> tuple[str, ...]:
        seen: set[str] = set()
        for position, name in enumerate(names):
            self.known((*place, position), noun, name, valid)
            if name in seen:
                self.refuse((*place, position), f"{noun} '{shortened(name)}' is named twice")
            seen.add(name)
        return tuple(names)

    def _check_calendar(self, of: written.Calendar) -> None:
        if not is_time_zone(of.timezone):
            self.refuse(("calendar", "timezone"), f"unknown time zone '{of.timezone}'{nearest(of.timezone, available_timezones())}")
        if of.ends_on and of.starts_on > of.ends_on:
            self.refuse(("calendar", "ends_on"), f"ends_on {of.ends_on} is before starts_on {of.starts_on}")

    def _periods(self, place: Place, periods: Sequence[written.Period]) -> tuple[resolved.Period, ...]:
        for position, period in enumerate(periods):
            if period.first > period.last:
                self.refuse((*place, position), f"from {period.first} is after to {period.last}")
        return tuple(_resolved(resolved.Period, period) for period in periods)

    def _column(self, place: Place, name: str) -> None:
        self.known(place, "column", name, self.profile)

    def _channel(self, id_: str, channel: written.Channel) -> resolved.Channel:
        place, hours = ("channels", id_), channel.hours
        if channel.medium not in (None, *get_args(resolved.Medium)):
            self.refuse(
                (*place, "medium"),
                f"{channel.medium} is not built yet: leave medium out, and whoever receives the messages of {id_} renders them",
            )
        if channel.to is not None:
            self._column((*place, "to"), channel.to)
            if self.profile.get(channel.to, pl.String()) != pl.String():
                self.refuse((*place, "to"), f"column '{channel.to}' is no text: expected the column with the address")
        elif channel.medium == "email":
            self.refuse((*place, "to"), "is missing: expected the column with the e-mail address")
        if hours and hours.first >= hours.end:
            self.refuse((*place, "hours"), f"from {hours.first} is not before to {hours.end}: hours do not cross midnight")
        return resolved.Channel(
            id=id_,
            consent=channel.consent,
            human=channel.human,
            medium=cast("resolved.Medium | None", channel.medium),
            to=channel.to,
            hours=resolved.Hours(hours.first, hours.end, tuple(sorted({WEEKDAYS.index(day) for day in hours.days}))) if hours else None,
            cap=_resolved(resolved.MessageCap, channel.cap) if channel.cap else None,
            per_minute=channel.per_minute,
            late_hours=channel.late_hours,
            when=self._condition((*place, "when"), channel.when),
            per_day=channel.per_day,
            cost=channel.cost,
        )

    def _audience(self, id_: str, audience: written.Audience) -> resolved.Audience:
        place = ("audiences", id_)
        if (audience.journey is None) == (audience.segment is None):
            self.refuse(place, "expected exactly one of the keys journey, segment")
        if audience.journey is not None:
            self.known((*place, "journey"), "journey", audience.journey, self.journeys)
        if audience.segment is not None:
            self.known((*place, "segment"), "segment", audience.segment, self.segments)
        self.known((*place, "channel"), "channel", audience.channel, self.document.channels)
        asked = self.document.channels.get(audience.channel)
        if asked is not None and asked.consent == "none":
            self.refuse((*place, "channel"), f"{audience.channel} asks for no consent (consent: none): expected one that does")
        if id_ == "answer":
            self.refuse(place, "is what the one answer is called where it is kept: expected another name")
        addresses = dict.fromkeys(channel.to for channel in self.document.channels.values() if channel.to is not None)
        for field in self.all_known((*place, "fields"), "column", audience.fields, self.profile):
            if self.profile.get(field, pl.String()).is_nested():
                self.refuse((*place, "fields"), f"column '{field}' is a list: expected columns of one value each")
        return resolved.Audience(
            id=id_,
            journey=audience.journey,
            segment=audience.segment,
            channel=audience.channel,
            match=self.all_known((*place, "match"), "address (a channel's 'to')", audience.match, addresses),
            fields=audience.fields,
            to=_unique(audience.to),
            leave=audience.leave,
        )

    def _publish(self) -> resolved.Publish | None:
        publish = self.document.publish
        if publish is None:
            return None
        return resolved.Publish(_unique(publish.to), self.all_known(("publish", "traits"), "column", publish.traits, self.profile))

    def selector(self, place: Place, events: tuple[str, ...], each: str | None, where: str | None) -> resolved.Selector:
        condition = None if where is None else self._compile((*place, "where"), where, compile_event_condition)
        return resolved.Selector(() if "*" in events else events, each, condition)

    def _signals(self, place: Place, signals: Sequence[written.Signal]) -> tuple[resolved.Signal, ...]:
        return tuple(
            resolved.Signal(self.selector((*place, position), signal.event, signal.each, signal.where), signal.weight)
            for position, signal in enumerate(signals)
        )

    def _trait(self, id_: str, trait: written.Trait) -> resolved.Trait:
        place = ("traits", id_)
        if id_ in self.reserved:
            self.refuse(place, f"the name {id_} is taken by a built-in column: choose another")
        elif id_ in KEYWORDS:
            self.refuse(place, f"the name {id_} is a word of conditions: choose another")
        dtype = _dtype(trait)
        if isinstance(trait, written.EventTrait):
            name = trait.property if isinstance(trait, written.PropertyTrait) else None
            selector = self.selector(place, trait.of, trait.each, trait.where)
            return resolved.Trait(id_, trait.kind, dtype, name, selector, trait.within_days)
        assert isinstance(trait, written.RankTrait | written.ProfileTrait)
        if isinstance(trait, written.RankTrait):
            self._check_ranked((*place, trait.kind), trait.property)
        return resolved.Trait(id_, trait.kind, dtype, trait.property)

    def _check_ranked(self, place: Place, name: str) -> None:
        traits = self.document.traits
        self.known(place, "trait", name, traits)
        if name in traits and (traits[name].kind == "percentile" or not _dtype(traits[name]).is_numeric()):
            kind = traits[name].kind
            self.refuse(place, f"trait '{name}' ({kind}) cannot be ranked: a percentile ranks by a number that is no percentile itself")

    def _engagement(self) -> resolved.Engagement | None:
        engagement = self.document.engagement
        return resolved.Engagement(engagement.touch, engagement.response, engagement.half_life_days) if engagement else None

    def _predictions(self) -> resolved.Predictions | None:
        of = self.document.predictions
        if of and is_pattern(of.value):
            self.refuse(("predictions", "value"), f"'{of.value}' is a pattern to Polars: predictions cannot read it")
        return _resolved(resolved.Predictions, of) if of else None

    def _segment(self, id_: str, text: str) -> resolved.Segment:
        place = ("segments", id_)
        if id_ == EVERYONE_ELSE:
            self.refuse(place, f"the name {EVERYONE_ELSE} is taken by the segment of those who are in no other: choose another")
        return resolved.Segment(id_, self._compile(place, text, self.compile))

    def _journeys(self) -> tuple[resolved.Journey, ...]:
        first: dict[str, int] = {}
        for position, id_ in enumerate(journey.id for journey in self.document.journeys):
            if id_ in first:
                self.refuse(("journeys", position, "id"), "a journey of this id stands above already: ids are unique")
            if id_ == NONE:
                self.refuse(("journeys", position, "id"), f"the id {NONE} is taken by the option of no journey: choose another")
            if id_ == SYSTEM:
                self.refuse(("journeys", position, "id"), f"the id {SYSTEM} is taken by all journeys together: choose another")
            first.setdefault(id_, position)
        self._check_acyclic(first)
        journeys = tuple(self._journey(("journeys", position), journey) for position, journey in enumerate(self.document.journeys))
        return tuple(journey for journey in journeys if journey.status != "draft")

    def _check_acyclic(self, positions: Mapping[str, int]) -> None:
        try:
            TopologicalSorter({journey.id: journey.only_after for journey in self.document.journeys}).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][:0:-1]
            start = circle.index(min(circle, key=lambda id_: positions[id_]))
            path = [*circle[start:], *circle[: start + 1]]
            self.refuse(("journeys", positions[path[0]], "only_after"), f"goes in a circle, so nobody could enter: {' after '.join(path)}")

    def _journey(self, place: Place, journey: written.Journey) -> resolved.Journey:
        document = self.document
        if journey.starts_on and journey.ends_on and journey.starts_on > journey.ends_on:
            self.refuse((*place, "ends_on"), f"ends_on {journey.ends_on} is before starts_on {journey.starts_on}")
        goal = journey.goal
        for position, rule in enumerate(journey.not_after):
            self.known((*place, "not_after", position, "journey"), "journey", rule.journey, self.journeys)
        references = {
            field: self.all_known((*place, field), noun, names, valid)
            for field, noun, names, valid in (
                ("interests", "interest", journey.interests, self.topics),
                ("intents", "intent", journey.intents, document.intents),
                ("channels", "channel", journey.channels, document.channels),
                ("next_journeys", "journey", journey.next_journeys, self.journeys),
                ("only_after", "journey", journey.only_after, self.journeys),
            )
        }
        variants = self.measures.variants((*place, "variants"), journey.variants)
        return _resolved(
            resolved.Journey,
            journey,
            name=journey.name or journey.id,
            queue=self._queue((*place, "queue"), journey.queue),
            goal=_resolved(resolved.Goal, goal, within_days=goal.within_days or journey.length_days) if goal else None,
            exit_when=self._condition((*place, "exit_when"), journey.exit_when),
            not_after=tuple(_resolved(resolved.NotAfter, rule) for rule in journey.not_after),
            reentry=None if journey.reentry == "never" else _resolved(resolved.Reentry, journey.reentry),
            daily_entries=journey.capacity.daily_entries,
            active=journey.capacity.active,
            suppress=self._periods((*place, "suppress"), journey.suppress),
            steps=self._steps((*place, "steps"), journey, variants),
            measure=self.measures.measure((*place, "measure"), journey.measure),
            variants=variants,
            adapt=journey.variants is not None and journey.variants.adapt,
            **references,
        )

    def _queue(self, place: Place, queue: written.Queue) -> resolved.Queue:
        if not (queue.any or queue.all or queue.none or queue.where is not None):
            self.refuse(place, "says nobody: expected at least one of any, all, none, where")
        return resolved.Queue(
            any=self.all_known((*place, "any"), "segment", queue.any, self.segments),
            all=self.all_known((*place, "all"), "segment", queue.all, self.segments),
            none=self.all_known((*place, "none"), "segment", queue.none, self.segments),
            where=self._condition((*place, "where"), queue.where),
        )

    def _steps(self, place: Place, journey: written.Journey, variants: Sequence[resolved.Share]) -> tuple[resolved.Step, ...]:
        seen: set[tuple[int, str, str | None]] = set()
        steps = []
        for position, step in enumerate(journey.steps):
            here = (*place, position)
            if step.day > journey.length_days:
                self.refuse((*here, "day"), f"day {step.day} is after the journey's last day: length_days is {journey.length_days}")
            if step.until is not None:
                self.refuse((*here, "until"), "is for slots, which are not built yet: leave it out")
            resolved_step = self._step(here, step)
            self.measures.check_step(here, step.variant, variants)
            of_variants = [step.variant] if step.variant is not None and variants else [None, *(share.id for share in variants)]
            if not seen.isdisjoint(keys := {(step.day, resolved_step.channel, variant) for variant in of_variants}):
                self.refuse(here, f"a second step on day {step.day} through {resolved_step.channel}: one message per day and channel")
            seen |= keys
            steps.append(resolved_step)
        return tuple(steps)

    def _step(self, place: Place, step: written.Step) -> resolved.Step:
        if (step.channel is None) == (not step.channels):
            self.refuse(place, "expected exactly one of the keys channel, channels")
        if step.channel is not None:
            self.known((*place, "channel"), "channel", step.channel, self.document.channels)
        channels = (*self.all_known((*place, "channels"), "channel", step.channels, self.document.channels), *filter(None, [step.channel]))
        self._check_content((*place, "content"), step.content, channels)
        for name in channels:
            if name in self.document.channels and self.document.channels[name].medium == "audience":
                self.refuse(place, f"nothing can be sent through {name}: it is for audiences")
        return _resolved(
            resolved.Step,
            step,
            channels=_unique(channels),
            when=self._condition((*place, "when"), step.when),
            at=None if step.at == "best" else step.at,
        )

    def _check_content(self, place: Place, name: str, channels: Sequence[str]) -> None:
        """Refuse content that is missing, or has nothing for one of the media through which the step may go."""
        document = self.document
        for id_ in channels:
            medium = document.channels[id_].medium if id_ in document.channels else None
            if medium not in MEDIA:
                continue
            if name not in document.content:
                self.known(place, "content", name, document.content)
                return
            if getattr(document.content[name], medium) is None:
                self.refuse(place, f"content '{shortened(name)}' has no {medium}, which channel {id_} needs")

    def _learning(self) -> resolved.Learning | None:
        learning, explore = self.document.learning, self.document.policy.explore
        if learning is None:
            return None
        if explore < _LEAST_EXPLORED:
            self.refuse(
                ("policy", "explore"),
                f"is {explore:g}, and learning needs at least {_LEAST_EXPLORED:g}: a model must not be the only source of its own data",
            )
        place = ("learning", "features")
        able = {name: dtype for name, dtype in self.profile.items() if dtype.is_numeric() or dtype == pl.Boolean()}
        named = tuple(able) if learning.features is None else self.all_known(place, "column", learning.features, self.profile)
        for position, name in enumerate(named):
            if name in self.profile and name not in able:
                self.refuse((*place, position), f"column '{name}' is {self.profile[name]}: expected a number or a boolean")
        return _resolved(resolved.Learning, learning, features={name: able[name] for name in named if name in able})

    def _policy(self, policy: written.Policy) -> resolved.Policy:
        number = partial(compile_number, schema=self.profile)
        cap = policy.cap
        score = self._compile(("policy", "score"), policy.score, partial(compile_number, schema=self.option))
        learned = [name for name in ("baseline", "uplift") if name in score.columns]
        if learned and self.document.learning is None:
            self.refuse(("policy", "score"), f"names {' and '.join(learned)}, which is learned: add the section learning, or leave it out")
        return _resolved(
            resolved.Policy,
            policy,
            score=score,
            none=self._compile(("policy", "none"), policy.none, number),
            cap=resolved.Cap(cap.days, self._compile(("policy", "cap", "starts"), cap.starts, number)) if cap else None,
            suppress=self._periods(("policy", "suppress"), policy.suppress),
            suppressed_when=self._condition(("policy", "suppressed_when"), policy.suppressed_when),
            keep_candidates=None if policy.keep_candidates == "all" else policy.keep_candidates,
        )


def _dtype(trait: written.Trait) -> pl.DataType:
    dtype = PROFILE_TYPES[trait.type] if isinstance(trait, written.ProfileTrait) else KINDS[trait.kind].dtype
    assert dtype is not None, f"kinds.KINDS says no type for {trait.kind}"
    return dtype


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _resolved(kind: type[Resolved], model: BaseModel, **made: object) -> Resolved:
    """Build what the engine runs: ``made`` where that takes more than one key, and any other field as it was written."""
    names = (field.name for field in fields(kind))  # type: ignore[arg-type]  # a dataclass, whichever
    return kind(**{name: getattr(model, name) for name in names if name not in made}, **made)
