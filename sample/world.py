"""A world with known truth: customers who buy by chance, and by the messages that reach them, by as much as is planted here.

What belongs here: who the customers are, what they do on a day, what messages do to them, and what that is worth, exactly. What does
not: anything of the pipeline. A world writes lines of the Segment Spec, and hears of nothing but messages that were delivered.

- **People** are of three kinds (few, some, many orders). Each has a rate of orders (gamma), a usual basket (lognormal) and stops
  buying for good one day (geometric). Weeks and years have seasons. They look at things, and join, whatever they are sent: so what one
  journey does changes neither whether nor when another is entered, and the truth is exact.
- **Messages** add to the chance of an order, to the basket and to the chance of stopping: ``strength x fatigue x (1 - exp(-days /
  delay))`` each, until it ends. Each message of the 14 days before takes 3 % off. Strengths may be 0 or negative.
- **What trackers do**: some people log in late and are strangers before; some have a second id until it is merged; 2 % of events are
  one to three days late, and 0.1 % so late that nobody counts them any more.
- **Many small worlds can be one**: people of a world have its number in their ids, and its own chances, whatever else is beside it.
  The same seed makes the same world, and the n-th of many is the same however many there are.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

FIRST = date(2026, 1, 5)
"""A Monday."""
WINDOW_DAYS, LONG_DAYS = 28, 56
KINDS = ("few", "some", "many")
SYSTEM = "system"
NEVER = np.int32(1_000_000)

FATIGUE, FATIGUE_DAYS = 0.03, 14
MOST_LIKELY = 0.95
"""Chance of an order on a day, at the most."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Effect:
    """What one message of a journey does, by kind of person, as a share of what would be; it grows with ``delay`` and ends."""

    rate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    basket: tuple[float, float, float] = (0.0, 0.0, 0.0)
    churn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    delay: float = 2.0
    ends: int = 28


@dataclass(frozen=True)
class Planted:
    """A journey: what it is entered by, how long it lasts, on which of its days a message is due, how many are held out, what it does."""

    id: str
    viewed: str
    steps: tuple[int, ...] = (1, 3, 5)
    length_days: int = 7
    holdout: float = 0.3
    effect: Effect = field(default_factory=Effect)
    priority: int = 0
    kinds: tuple[str, ...] = ()
    """Only people of these kinds qualify; of all if none is named."""


@dataclass(frozen=True)
class Scenario:
    """What is planted, and how people are."""

    journeys: tuple[Planted, ...]
    policy_holdout: float = 0.1
    rate: tuple[float, float, float] = (0.02, 0.05, 0.12)
    basket: tuple[float, float, float] = (30.0, 45.0, 60.0)
    churn: tuple[float, float, float] = (0.003, 0.0015, 0.0007)
    views: float = 0.02
    """Chance of looking at each of the topics on a day."""
    opt_out: float = 0.001
    log_in_late: float = 0.08
    has_two_ids: float = 0.02
    late: float = 0.02
    too_late: float = 0.001
    goal_days: int | None = None
    """Days in which an order is the goal of a journey; without, journeys have none."""
    policy: Mapping[str, object] = field(default_factory=dict)
    """More of ``policy`` in ``journeys.yaml``."""
    learning: str | None = None
    """What is learned is for: shadow or live; None: nothing is learned."""


def _same(share: float) -> tuple[float, float, float]:
    return (share, share, share)


WELCOME = Planted("welcome", "tea", effect=Effect(rate=_same(0.2), delay=2, ends=28))
CARE = Planted("care", "ski", effect=Effect(rate=(0.3, 0.15, 0.05), basket=_same(0.05), churn=_same(-0.2), delay=4, ends=21))
NEWS = Planted("news", "garden")
PESTER = Planted("pester", "poker", steps=(1, 2, 3, 4), effect=Effect(rate=_same(-0.12), churn=_same(0.4), delay=1, ends=14))

PUSHED = (
    Planted("lift", "tea", effect=Effect(rate=_same(0.25)), holdout=0.2),
    Planted("care", "ski", effect=Effect(rate=(0.35, 0.1, -0.1)), holdout=0.2),
    Planted("news", "garden", holdout=0.2, priority=20),
    Planted("pester", "poker", effect=Effect(rate=_same(-0.15), churn=_same(0.2)), holdout=0.2, priority=40),
)
"""What is pushed most does least: who learns does otherwise."""
BEST = tuple(replace(planted, kinds=kinds, priority=0) for planted, kinds in zip(PUSHED, (KINDS[1:], KINDS[:1]), strict=False))
"""By kind of person, the journey that is worth most to them: what somebody would do who knew it all."""
CHOOSING = Scenario(PUSHED, views=0.25, goal_days=14, policy={"cap": "{days: 21, starts: '1'}", "explore": 0.1, "prior_propensity": 0.1})

SCENARIOS: Mapping[str, Scenario] = {
    "choosing by prior": CHOOSING,
    "choosing by learning": replace(CHOOSING, policy={**CHOOSING.policy, "score": "uplift * (1 + priority / 100.0)"}, learning="live"),
    "choosing by truth": replace(CHOOSING, journeys=BEST),
    "choosing by prior, learning in the shadow": replace(CHOOSING, learning="shadow"),
    "planted": Scenario((WELCOME, CARE, NEWS, PESTER)),
    "busy": Scenario((WELCOME,), policy_holdout=0.05, views=0.25),
    "nothing": Scenario(tuple(Planted(journey.id, journey.viewed, journey.steps) for journey in (WELCOME, CARE, NEWS, PESTER))),
}


class World:
    """The people of one world, or of several side by side, day by day."""

    def __init__(self, scenario: Scenario, seed: int, *, count: int = 1, customers: int = 2_000, days: int = 120) -> None:
        self.scenario, self.seed, self.size = scenario, seed, (count, customers)
        self.days: Sequence[date] = [FIRST + timedelta(days=number) for number in range(days)]
        self.number = {journey.id: number for number, journey in enumerate(scenario.journeys)}
        self._born(days)
        self.messages = _Messages.none()
        self._next = 0
        self._waiting: dict[int, list[pl.DataFrame]] = {}

    # --- who they are ---

    def _chance(self, what: str, day: int = 0) -> np.random.Generator:
        """Return chances of their own for each thing that is drawn; people of the n-th world meet the same however many there are."""
        return np.random.default_rng([self.seed, zlib.crc32(what.encode()), day])

    def _uniform(self, what: str, day: int = 0) -> Floats:
        return self._chance(what, day).random(self.size).ravel()

    def _born(self, days: int) -> None:
        scenario = self.scenario
        self.kind = np.searchsorted([0.5, 0.8], self._uniform("kind"), side="right")
        mean, self.hazard = np.array(scenario.rate)[self.kind], np.array(scenario.churn)[self.kind]
        self.rate: Floats = self._chance("rate").standard_gamma(2.0, self.size).ravel() / 2.0 * mean
        usual = np.exp(0.3 * self._chance("basket").standard_normal(self.size).ravel() - 0.3**2 / 2)
        self.basket: Floats = usual * np.array(scenario.basket)[self.kind]
        later = (self._uniform("joined") * 2 - 1) * max(days - WINDOW_DAYS, 0)
        self.joined: Ints = np.maximum(later, 0).astype(np.int32)
        self.consents: Flags = self._uniform("consents") < 0.85
        self.opted_out: Ints = self.joined + 1 + _geometric(self._uniform("opt out"), scenario.opt_out)
        self.logs_in: Ints = np.where(
            self._uniform("logs in late") < scenario.log_in_late,
            self.joined + 1 + (self._uniform("logs in") * 10).astype(np.int32),
            self.joined,
        ).astype(np.int32)
        merges = self.logs_in + 10 + (self._uniform("merges") * 50).astype(np.int32)
        self.merges: Ints = np.where(self._uniform("two ids") < scenario.has_two_ids, merges, -1).astype(np.int32)
        self.churned: Ints = np.full(self.people, NEVER, np.int32)
        self.spent: Floats = np.zeros(self.people)
        number = np.arange(self.people)
        name = pl.DataFrame({"world": number // self.size[1], "person": number % self.size[1]}).select(
            pl.format("w{}-{}", pl.col("world").cast(pl.String).str.zfill(3), pl.col("person").cast(pl.String).str.zfill(6))
        )
        self.names = name.to_series()

    @property
    def people(self) -> int:
        """Return how many there are."""
        return self.size[0] * self.size[1]

    def world_of(self) -> pl.Expr:
        """Return the number of the world that a ``customer_id`` belongs to."""
        return pl.col("customer_id").str.extract(_NAME, 1).cast(pl.Int64).alias("world")

    def person_of(self) -> pl.Expr:
        """Return the number of the person that a ``customer_id`` is a name of."""
        world, person = (pl.col("customer_id").str.extract(_NAME, part).cast(pl.Int64) for part in (1, 2))
        return (world * self.size[1] + person).alias("person")

    # --- what they do ---

    def arriving(self, day: date, delivered: pl.DataFrame) -> bytes:
        """Return the lines that arrive on a day; ``delivered``: ``customer_id, journey_id, step_day`` of that day's messages.

        Raises ValueError where a day is left out, or asked for again.
        """
        person = delivered.select(self.person_of()).to_series().to_numpy().astype(np.int32)
        journey = delivered.select(pl.col("journey_id").replace_strict(self.number, return_dtype=pl.Int32)).to_series().to_numpy()
        buys, spent = self.live(day, person, journey.astype(np.int32))
        today = (day - FIRST).days
        happened = pl.concat([self._identify(today), self._look(today), self._order(today, buys, spent), self._respond(today, person)])
        self._keep(happened, today)
        lines = pl.concat(self._waiting.pop(today)).sort("message_id")["line"]
        return ("\n".join(lines) + "\n").encode() if len(lines) else b""

    def live(self, day: date, person: Ints, journey: Ints) -> tuple[Ints, Floats]:
        """Let a day pass: return who orders, and for how much. ``person, journey``: numbers of those who are sent a message, and of which.

        Raises ValueError where a day is left out, or asked for again.
        """
        today = (day - FIRST).days
        if today != self._next:
            raise ValueError(f"{day} is not the next day, {FIRST + timedelta(days=self._next)}")
        self._next += 1
        self.messages = self.messages.joined_by(person, journey, today)
        buys, spent = self._buy(today)
        self.spent[buys] += spent
        return buys, spent

    def _buy(self, today: int) -> tuple[Ints, Floats]:
        """Return who orders, and for how much; who stops for good is remembered."""
        more = self.messages.at_work(self.scenario, self.kind, today)
        alive = (self.joined <= today) & (self.churned > today)
        stops = alive & (self._uniform("stops", today) < np.clip(self.hazard * more["churn"], 0, 1))
        self.churned[stops] = today
        buys = alive & ~stops & (self._uniform("orders", today) < likely(self.rate * season(today) * more["rate"]))
        noise = np.exp(0.5 * self._chance("spends", today).standard_normal(self.size).ravel() - 0.5**2 / 2)
        who = np.flatnonzero(buys).astype(np.int32)
        return who, np.round((self.basket * more["basket"] * noise)[who], 2)

    def _event(self, who: Ints, today: int, kind: str, fields: pl.Expr, columns: Mapping[str, object] | None = None) -> pl.DataFrame:
        """One row per event: ``message_id``, whose it is, its line but for who they are."""
        frame = pl.DataFrame({"person": who, **(columns or {})}).with_columns(name=self.names.gather(who))
        second = (pl.col("person").cast(pl.Int64) * 7919 + zlib.crc32(kind.encode())) % 86_400
        clock = (pl.lit(FIRST + timedelta(days=today)).cast(pl.Datetime("us")) + pl.duration(seconds=second)).dt.strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )
        message_id = pl.format(f"{kind}-{{}}-{today}", "name")
        return frame.select("person", "name", message_id=message_id, clock=clock, fields=fields)

    def _identify(self, today: int) -> pl.DataFrame:
        """Log in (and say who one was before), say yes or no to e-mail, have two ids merged."""
        logs_in = np.flatnonzero(self.logs_in == today).astype(np.int32)
        consent = pl.when(pl.Series(self.consents[logs_in])).then(pl.lit("true")).otherwise(pl.lit("false"))
        kind = pl.Series([KINDS[kind] for kind in self.kind[logs_in]], dtype=pl.String)
        stranger = pl.when(pl.Series(self.joined[logs_in] < today)).then(_text('"anonymousId":"a.', _WHO, '",')).otherwise(pl.lit(""))
        traits = _text('"type":"identify",', stranger, '"userId":"', _WHO, '","traits":{"consent_email":', consent, ',"kind":"', kind, '"}')
        first = self._event(logs_in, today, "login", traits)
        second_id = logs_in[self.merges[logs_in] >= 0]
        again = _text('"type":"identify","userId":"b.', _WHO, '","traits":{"consent_email":true}')
        no = np.flatnonzero((self.opted_out == today) & self.consents & (self.logs_in < today)).astype(np.int32)
        declined = _text('"type":"identify","userId":"', _WHO, '","traits":{"consent_email":false}')
        merged = np.flatnonzero(self.merges == today).astype(np.int32)
        alias = _text('"type":"alias","previousId":"b.', _WHO, '","userId":"', _WHO, '"')
        return pl.concat(
            [
                first,
                self._event(second_id, today, "login2", again),
                self._event(no, today, "optout", declined),
                self._event(merged, today, "alias", alias),
            ]
        )

    def _look(self, today: int) -> pl.DataFrame:
        looked = []
        for journey in self.scenario.journeys:
            looks = (self.joined <= today) & (self._uniform(f"looks:{journey.viewed}", today) < self.scenario.views)
            properties = f',"type":"track","event":"Product Viewed","properties":{{"category":"{journey.viewed}"}}'
            looked.append(self._tracked(np.flatnonzero(looks).astype(np.int32), today, f"view.{journey.viewed}", pl.lit(properties)))
        return pl.concat(looked)

    def _order(self, today: int, who: Ints, spent: Floats) -> pl.DataFrame:
        revenue = _text(',"type":"track","event":"Order Completed","properties":{"revenue":', pl.col("spent").cast(pl.String), "}")
        return self._tracked(who, today, "order", revenue, {"spent": spent})

    def _respond(self, today: int, person: Ints) -> pl.DataFrame:
        who = person[self._uniform("responds", today)[person] < 0.2]
        return self._tracked(np.unique(who), today, "open", pl.lit(',"type":"track","event":"Message Opened"'))

    def _tracked(self, who: Ints, today: int, kind: str, fields: pl.Expr, columns: Mapping[str, object] | None = None) -> pl.DataFrame:
        """Events as a tracker names people: a stranger before they log in, by either id until these are merged."""
        is_second = (self.merges[who] > today) & (self._uniform(f"by:{kind}", today)[who] < 0.5)
        by = np.where(self.logs_in[who] > today, "a", np.where(is_second, "b", ""))
        named = (
            pl.when(pl.col("by") == "a")
            .then(_text('"anonymousId":"a.', _WHO, '"'))
            .when(pl.col("by") == "b")
            .then(_text('"userId":"b.', _WHO, '"'))
            .otherwise(_text('"userId":"', _WHO, '"'))
        )
        return self._event(who, today, kind, pl.concat_str(named, fields), {"by": by.astype(object), **(columns or {})})

    def _keep(self, happened: pl.DataFrame, today: int) -> None:
        """Put each event where it arrives: most at once."""
        text = _text('{"messageId":"', pl.col("message_id"), '","timestamp":"', pl.col("clock"), '",', pl.col("fields"), "}")
        lot = (pl.col("message_id").hash(self.seed) % 100_000) / 100_000
        is_tracked = pl.col("fields").str.contains('"type":"track"', literal=True)
        scenario = self.scenario
        days = (
            pl.when(~is_tracked)
            .then(0)
            .when(lot < scenario.too_late)
            .then(TOO_LATE)
            .when(lot < scenario.too_late + scenario.late)
            .then(1 + pl.col("person") % 3)
            .otherwise(0)
        )
        arrives = happened.select("message_id", line=text, arrives=days.cast(pl.Int32) + today)
        self._waiting.setdefault(today, [])
        for (arrival,), rows in arrives.group_by("arrives"):
            self._waiting.setdefault(int(str(arrival)), []).append(rows.select("message_id", "line"))

    # --- what messages made of it ---

    def planted(self, entries: pl.DataFrame) -> pl.Series:
        """Return, per entry, the difference in expected money within its window that the journey's messages make, or would have made.

        ``entries``: ``customer_id, journey_id, entered_on, window_days``, and, of entries that might have been, ``taken``: the journey that
        was entered in place of it, whose messages do not count. Of ``system``: all messages delivered after the entry; what they
        would have been for somebody who is held out of everything nobody knows.
        """
        parts = [self._planted(part) for part in entries.iter_slices(20_000)]
        return pl.Series("planted", np.concatenate(parts) if parts else [], dtype=pl.Float64)

    def _planted(self, entries: pl.DataFrame) -> Floats:
        person = entries.select(self.person_of()).to_series().to_numpy()
        entered = (entries["entered_on"].cast(pl.Int32) - _ordinal(FIRST)).to_numpy()
        journey = entries["journey_id"].replace_strict({**self.number, SYSTEM: -1}, return_dtype=pl.Int32).to_numpy()
        taken = entries["taken"].replace_strict(self.number, return_dtype=pl.Int32).to_numpy() if "taken" in entries.columns else journey
        window = entries["window_days"].to_numpy().astype(np.int32)
        day, of, own = self._of_entries(person.astype(np.int32), entered.astype(np.int32), journey, taken, window)
        alive = (self.churned[person] > entered) & (self.joined[person] <= entered)
        usual, hazard, kind = self.rate[person], self.hazard[person], self.kind[person]
        money = []
        for sent in (np.ones_like(own), ~own):
            work, survives = _Work.of(self.scenario, kind[:, None], of, _fatigue(day, sent) * sent), np.ones(len(person))
            money.append(np.zeros(len(person)))
            for ahead in range(1, int(window.max(initial=0)) + 1):
                more = work.at(ahead + (entered[:, None] - day))
                survives *= 1 - np.clip(hazard * more["churn"], 0, 1)
                worth = survives * likely(usual * season(entered + ahead) * more["rate"]) * self.basket[person] * more["basket"]
                money[-1] += np.where(alive & (ahead <= window), worth, 0.0)
        return money[0] - money[1]

    def _of_entries(self, person: Ints, entered: Ints, journey: Ints, taken: Ints, window: Ints) -> tuple[Ints, Ints, Flags]:
        """Return the messages that matter for each entry, by row: on which day, of which journey, and whether this entry's own.

        Where there is none, the day is after all days. An entry's own are as its steps plan them, whether or not they were delivered:
        control is told what it would have been.
        """
        planned = self._planned(person, entered, journey)
        row, message = self.messages.of(person)
        day, of = self.messages.day[message], self.messages.journey[message]
        lasts = np.array([planted.length_days for planted in self.scenario.journeys], np.int32)
        is_own = ((of == journey[row]) | (of == taken[row])) & (day > entered[row]) & (day <= entered[row] + lasts[of])
        is_own_of_system = (journey[row] < 0) & (day > entered[row])
        keep = ~is_own & (day <= entered[row] + window[row])
        row, day, of, of_system = row[keep], day[keep], of[keep], is_own_of_system[keep]
        place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
        width = int(place.max(initial=-1)) + 1
        days, ofs = np.full((len(person), width), NEVER, np.int32), np.zeros((len(person), width), np.int32)
        owns = np.zeros((len(person), width), np.bool_)
        days[row, place], ofs[row, place], owns[row, place] = day, of, of_system
        ofs = np.column_stack([ofs, np.repeat(np.maximum(journey, 0)[:, None], planned.shape[1], axis=1)])
        return np.column_stack([days, planned]), ofs, np.column_stack([owns, np.ones(planned.shape, np.bool_)])

    def _planned(self, person: Ints, entered: Ints, journey: Ints) -> Ints:
        """Return on which days the steps of each entry are delivered, by row, if nothing but a no to e-mail stands against it."""
        most = max(len(planned.steps) for planned in self.scenario.journeys)
        steps = np.full((len(self.scenario.journeys) + 1, most), NEVER, np.int32)  # the last row is of the system, which plans nothing
        for number, planned in enumerate(self.scenario.journeys):
            steps[number, : len(planned.steps)] = planned.steps
        due = entered[:, None] + steps[journey]
        return np.where(self.opted_out[person][:, None] >= due, due, NEVER).astype(np.int32)

    def made_by_all(self, until: date | None = None) -> Floats:
        """Return, per person, the difference in expected money that all delivered messages have made by the end."""
        last = (until - FIRST).days if until is not None else len(self.days) - 1
        return self._expected(self.messages, last) - self._expected(_Messages.none(), last)

    def _expected(self, messages: "_Messages", last: int) -> Floats:
        alive, money = np.ones(self.people), np.zeros(self.people)
        for today in range(last + 1):
            more, there = messages.at_work(self.scenario, self.kind, today), self.joined <= today
            alive *= np.where(there, 1 - np.clip(self.hazard * more["churn"], 0, 1), 1.0)
            worth = likely(self.rate * season(today) * more["rate"]) * self.basket * more["basket"]
            money += np.where(there, alive * worth, 0.0)
        return money

    # --- what they are asked to join ---

    @property
    def portfolio(self) -> str:
        """Return the ``journeys.yaml`` it is run with."""
        journeys = self.scenario.journeys
        traits = "\n".join(
            f"  viewed_{journey.viewed}: {{count: Product Viewed, where: \"category = '{journey.viewed}'\", within_days: 3}}"
            for journey in journeys
        )
        scenario = self.scenario
        policy = {"holdout": scenario.policy_holdout, "none": '"0"', **scenario.policy}
        if scenario.goal_days is not None:
            traits += "\n  kind: {profile: kind, type: string}\n  orders_28d: {count: Order Completed, within_days: 28}"
            traits += "\n  spend_28d: {sum: revenue, of: Order Completed, within_days: 28}"
        rules = ", ".join(f"{key}: {value}" for key, value in policy.items())
        learning = "" if scenario.learning is None else f"learning: {{use: {scenario.learning}}}\n"
        return f"""version: "1"
calendar: {{timezone: UTC, starts_on: {FIRST}}}
channels:
  email: {{consent: opt_in, cost: 0.002}}
traits:
{traits}
metrics:
  revenue: {{sum: revenue, of: Order Completed}}
measurement: {{money: revenue, window_days: {WINDOW_DAYS}, before_days: {WINDOW_DAYS}, long_days: {LONG_DAYS}, expected_customers: 400}}
{learning}journeys:
{"".join(_journey(journey, scenario.goal_days) for journey in journeys)}policy: {{{rules}}}
"""


def _journey(journey: Planted, goal_days: int | None) -> str:
    steps = ", ".join(f"{{day: {day}, channel: email, content: {journey.id}_{day}}}" for day in journey.steps)
    of_kind = f" and kind in ({', '.join(repr(kind) for kind in journey.kinds)})" if journey.kinds else ""
    more = f"    priority: {journey.priority}\n" if journey.priority else ""
    more += "" if goal_days is None else f"    goal: {{event: Order Completed, within_days: {goal_days}}}\n    exit_on_goal: false\n"
    return f"""  - id: {journey.id}
    length_days: {journey.length_days}
{more}    queue: {{where: "viewed_{journey.viewed} > 0{of_kind}"}}
    channels: [email]
    reentry: {{after_days: {WINDOW_DAYS + 7}}}
    holdout: {journey.holdout}
    steps: [{steps}]
"""


@dataclass(frozen=True, eq=False)
class _Messages:
    """Messages that were delivered: to whom, of which journey, on which day, and how fresh they found the reader (1 = quite)."""

    person: Ints
    journey: Ints
    day: Ints
    fatigue: Floats

    @classmethod
    def none(cls) -> "_Messages":
        nothing = np.zeros(0, np.int32)
        return cls(nothing, nothing, nothing, np.zeros(0))

    def joined_by(self, person: Ints, journey: Ints, today: int) -> "_Messages":
        """Add those of a day."""
        recent = self.person[self.day >= today - FATIGUE_DAYS]
        before = np.bincount(recent, minlength=int(person.max(initial=0)) + 1)[person]
        return _Messages(
            np.concatenate([self.person, person]),
            np.concatenate([self.journey, journey]),
            np.concatenate([self.day, np.full(len(person), today, np.int32)]),
            np.concatenate([self.fatigue, (1 - FATIGUE) ** before]),
        )

    def at_work(self, scenario: Scenario, kind: npt.NDArray[np.intp], today: int) -> dict[str, Floats]:
        """Return by how much each person's rate, basket and chance of stopping are multiplied on a day."""
        longest = max(journey.effect.ends for journey in scenario.journeys)
        at_work = np.flatnonzero((self.day <= today) & (self.day >= today - longest))
        person, age = self.person[at_work], today - self.day[at_work]
        work = _Work.of(scenario, kind[person], self.journey[at_work], self.fatigue[at_work])
        return {what: np.maximum(1 + np.bincount(person, alone, minlength=len(kind)), 0) for what, alone in work.alone(age).items()}

    def of(self, person: Ints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return pairs of a row of ``person`` and the number of a message to them, by row."""
        order = np.argsort(self.person, kind="stable")
        people = self.person[order]
        first, beyond = np.searchsorted(people, person, side="left"), np.searchsorted(people, person, side="right")
        count = beyond - first
        row = np.repeat(np.arange(len(person)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, order[np.repeat(first, count) + within]


WORKS_ON = ("rate", "basket", "churn")
TOO_LATE = 45
_NAME = r"w(\d{3})-(\d{6})$"


_WHO = pl.col("name")


def _text(*parts: str | pl.Expr | pl.Series) -> pl.Expr:
    """Return the parts as one text."""
    return pl.concat_str(pl.lit(part) if isinstance(part, str | pl.Series) else part for part in parts)


@dataclass(frozen=True, eq=False)
class _Work:
    """What messages do, by how old they are: each array has a place for each of them."""

    strength: Mapping[str, Floats]
    delay: Floats
    ends: Ints

    @classmethod
    def of(cls, scenario: Scenario, kind: npt.NDArray[np.intp], journey: Ints, fatigue: Floats) -> "_Work":
        effects = [planted.effect for planted in scenario.journeys]
        strength = {what: np.array([getattr(effect, what) for effect in effects])[journey, kind] * fatigue for what in WORKS_ON}
        return cls(
            strength,
            np.array([effect.delay for effect in effects])[journey],
            np.array([effect.ends for effect in effects], np.int32)[journey],
        )

    def alone(self, age: Ints) -> dict[str, Floats]:
        """Return what each message adds, so many days after it came."""
        is_at_work = (age >= 0) & (age <= self.ends)
        weight = np.where(is_at_work, -np.expm1(-np.where(is_at_work, age, 0) / self.delay), 0.0)
        return {what: strength * weight for what, strength in self.strength.items()}

    def at(self, age: Ints) -> dict[str, Floats]:
        """Return by how much rate, basket and chance of stopping are multiplied, where rows are people and columns their messages."""
        return {what: np.maximum(1 + added.sum(axis=1), 0) for what, added in self.alone(age).items()}


def _fatigue(day: Ints, counts: Flags) -> Floats:
    """Return how fresh each message finds its reader, by rows of messages of one; only those count that ``counts``."""
    before = np.zeros(day.shape, np.int32)
    for column in range(day.shape[1]):
        ago = day - day[:, column : column + 1]
        before += (ago > 0) & (ago <= FATIGUE_DAYS) & counts[:, column : column + 1]
    return np.asarray((1 - FATIGUE) ** before)


def season(today: int | Ints) -> Floats:
    """Return what a day is like: more is bought at the end of a week, and in winter."""
    week = np.array([0.9, 0.9, 0.95, 1.0, 1.15, 1.2, 0.9])[np.asarray(today) % 7]
    return np.asarray(week * (1 + 0.1 * np.cos(2 * math.pi * np.asarray(today) / 365)))


def likely(rate: Floats) -> Floats:
    """Return the chance of an order on a day."""
    return np.clip(rate, 0, MOST_LIKELY)


def _geometric(uniform: Floats, chance: float) -> Ints:
    """Return after how many days it happens."""
    if chance <= 0:
        return np.full(len(uniform), NEVER, np.int32)
    return np.minimum(np.floor(np.log1p(-uniform) / math.log1p(-chance)), NEVER - 1).astype(np.int32)


def _ordinal(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def make(scenario: str, seed: int, *, count: int, customers: int, days: int) -> World:
    """Return a world of ``SCENARIOS`` that nothing has happened in yet."""
    return World(SCENARIOS[scenario], seed, count=count, customers=customers, days=days)
