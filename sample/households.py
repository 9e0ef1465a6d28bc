"""The households of the *Complete Journey* as a world with known truth: what they bought is real, what messages add to it is planted.

What belongs here: the year again, several times side by side, and extra baskets. What does not: the source itself
(``complete_journey``), people who are made up (``world``).

- **Copies.** Each copy of a household has a name of its own, so that other lots are drawn for it: each is the same year with other
  control groups.
- **Nothing planted**: nothing that is sent changes anything, which makes every journey, and all of them together, a comparison of like
  with like on real money.
- **Planted**: for some weeks after a message a household comes more often, by a share of how often it came that year. Each extra basket is
  one of its own, drawn by lot. It does not say what was in it, so it opens no queue.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from sample.complete_journey import FIRST_DAY, LAST_DAY, baskets

WINDOW_DAYS, LONG_DAYS = 28, 84
DELIVERED_ON = (1, 4)
"""Days after the entry on which a message is due."""
ENDS = 21
"""Days for which a message works."""

PLANTED: Mapping[str, float] = {"PRODUCE": 0.2, "MEAT": 0.1, "DELI": 0.0, "PASTRY": 0.0}
"""How much more often a household comes while a message works, by the department whose buyers it is sent to."""
NAMES = {"PRODUCE": "harvest", "MEAT": "butcher", "DELI": "lunch", "PASTRY": "bakery"}


@dataclass(frozen=True, eq=False)
class _Sent:
    """Messages: to which household of which copy, how much they add, on which day."""

    customer: npt.NDArray[np.int64]
    strength: npt.NDArray[np.float64]
    day: npt.NDArray[np.int64]


class Households:
    """Some copies of the households, day by day."""

    def __init__(self, planted: Mapping[str, float], seed: int, *, count: int = 1, days: int = 365) -> None:
        """``planted``: by department, how much more often households come. Raises ModuleNotFoundError without the sample's package."""
        self.planted_by = {NAMES[department]: strength for department, strength in planted.items()}
        self.seed, self.count = seed, count
        last = min(FIRST_DAY + timedelta(days=days - 1), LAST_DAY)
        self.days: Sequence[date] = [FIRST_DAY + timedelta(days=number) for number in range((last - FIRST_DAY).days + 1)]
        bought = baskets(list(NAMES)).rename(NAMES)
        ids = bought["household_id"].unique().sort()
        number = bought["household_id"].replace_strict(ids, pl.Series(range(len(ids)), dtype=pl.Int64), return_dtype=pl.Int64)
        self.baskets = bought.with_columns(household=number, day=(pl.col("arrives_on") - pl.lit(FIRST_DAY)).dt.total_days())
        own = self.baskets.sort("household", maintain_order=True)
        self.amounts = own["revenue"].to_numpy()
        counts = own.group_by("household", maintain_order=True).agg(pl.len(), pl.col("revenue").sum())
        self.number = counts["len"].to_numpy().astype(np.int64)
        self.first = np.cumsum(self.number) - self.number
        self.rate = self.number / 365.0
        self.mean = counts["revenue"].to_numpy() / self.number
        self.ids = ids
        self.sent = _Sent(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))

    def world_of(self) -> pl.Expr:
        """Return the number of the copy that a ``customer_id`` is of."""
        return pl.col("customer_id").str.extract(_NAME, 1).cast(pl.Int64).alias("world")

    def customer_of(self) -> pl.Expr:
        """Return the number of the household, in its copy, that a ``customer_id`` names."""
        household = pl.col("customer_id").str.extract(_NAME, 2).cast(pl.Int64)
        return (self.world_of() * len(self.ids) + household).alias("customer")

    def arriving(self, day: date, delivered: pl.DataFrame) -> bytes:
        """Return the lines that arrive on a day; ``delivered``: ``customer_id, journey_id, step_day`` of that day's messages."""
        today = (day - FIRST_DAY).days
        to = delivered.select(self.customer_of()).to_series().to_numpy().astype(np.int64)
        strength = delivered["journey_id"].replace_strict(self.planted_by, return_dtype=pl.Float64).to_numpy()
        self.sent = _Sent(
            np.concatenate([self.sent.customer, to]),
            np.concatenate([self.sent.strength, strength]),
            np.concatenate([self.sent.day, np.full(len(to), today, np.int64)]),
        )
        mine = self.baskets.filter(pl.col("day") == today).with_row_index("place")
        clock = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        sold = pl.concat_str(
            pl.when(pl.col(name) > 0).then(pl.concat_str(pl.lit(f',"{name}":'), pl.col(name).cast(pl.String))).otherwise(pl.lit(""))
            for name in NAMES.values()
        )
        real = mine.select("household", clock=clock, id=pl.format("b{}", "place"), revenue="revenue", sold=sold)
        copies = [real.with_columns(world=pl.lit(number, pl.Int64)) for number in range(self.count)]
        events = pl.concat([*copies, self._extra(day)])
        lines = events.select(
            pl.concat_str(
                pl.lit('{"type":"track","event":"Order Completed","messageId":"'),
                pl.concat_str(pl.col("id"), pl.lit(f"-{today}-"), _name()),
                pl.lit('","userId":"'),
                _name(),
                pl.lit('","timestamp":"'),
                pl.col("clock"),
                pl.lit('","properties":{"revenue":'),
                pl.col("revenue").cast(pl.String),
                pl.col("sold"),
                pl.lit("}}"),
            )
        ).to_series()
        return ("\n".join(lines) + "\n").encode() if len(lines) else b""

    def _extra(self, day: date) -> pl.DataFrame:
        """One row per extra basket of the day, each one of the household's own."""
        chance = np.random.default_rng([self.seed, zlib.crc32(b"extra"), day.toordinal()])
        age = (day - FIRST_DAY).days - self.sent.day
        at_work = (age > 0) & (age < ENDS) & (self.sent.strength > 0)
        customer = self.sent.customer[at_work]
        household = customer % len(self.ids)
        comes = chance.random(len(customer)) < self.sent.strength[at_work] * self.rate[household]
        customer, household = customer[comes], household[comes]
        drawn = self.first[household] + (chance.random(len(household)) * self.number[household]).astype(np.int64)
        return pl.DataFrame(
            {
                "household": household,
                "clock": [f"{day}T16:00:00Z"] * len(household),
                "id": [f"x{place}" for place in range(len(household))],
                "revenue": self.amounts[drawn],
                "sold": [""] * len(household),
                "world": customer // len(self.ids),
            },
            schema={
                "household": pl.Int64,
                "clock": pl.String,
                "id": pl.String,
                "revenue": pl.Float64,
                "sold": pl.String,
                "world": pl.Int64,
            },
        )

    def planted(self, entries: pl.DataFrame) -> pl.Series:
        """Return, per entry, what the journey's messages add to the household's money within the window, or would have added.

        ``entries``: ``customer_id, journey_id, entered_on, window_days``. Of ``system``: all messages delivered after the entry.
        """
        rows = entries.with_columns(
            self.customer_of(),
            entered=(pl.col("entered_on") - pl.lit(FIRST_DAY)).dt.total_days(),
            strength=pl.col("journey_id").replace_strict({**self.planted_by, SYSTEM: None}, return_dtype=pl.Float64),
        ).with_row_index("row")
        due = [pl.col("window_days").cast(pl.Int64) - day for day in DELIVERED_ON]
        own = rows.filter(pl.col("journey_id") != SYSTEM).select(
            "row", "customer", adds=sum(days.clip(0, ENDS - 1) for days in due) * pl.col("strength")
        )
        sent = pl.DataFrame({"customer": self.sent.customer, "adds": self.sent.strength, "day": self.sent.day})
        every = (
            rows.filter(pl.col("journey_id") == SYSTEM)
            .join(sent.filter(pl.col("adds") > 0), on="customer")
            .filter(pl.col("day") > pl.col("entered"))
            .select("row", "customer", adds=(pl.col("entered") + pl.col("window_days") - pl.col("day")).clip(0, ENDS - 1) * pl.col("adds"))
        )
        days = rows.select("row").join(pl.concat([own, every]).group_by("row").agg(pl.col("adds").sum()), on="row", how="left").sort("row")
        household = rows["customer"].to_numpy() % len(self.ids)
        return pl.Series("planted", days["adds"].fill_null(0.0).to_numpy() * self.rate[household] * self.mean[household], dtype=pl.Float64)

    @property
    def portfolio(self) -> str:
        """Return the ``journeys.yaml`` it is run with."""
        names = list(NAMES.values())
        traits = "\n".join(f'  bought_{name}: {{count: Order Completed, where: "{name} > 0", within_days: 2}}' for name in names)
        journeys = "".join(
            f"""  - id: {name}
    length_days: 5
    queue: {{where: "bought_{name} > 0"}}
    holdout: 0.3
    steps: [{", ".join(f"{{day: {day}, channel: till, content: {name}_{day}}}" for day in DELIVERED_ON)}]
"""
            for name in names
        )
        return f"""version: "2017"
calendar: {{timezone: America/New_York, starts_on: {FIRST_DAY}}}
channels:
  till: {{consent: none}}
traits:
{traits}
metrics:
  revenue: {{sum: revenue, of: Order Completed}}
measurement: {{money: revenue, window_days: {WINDOW_DAYS}, before_days: 90, long_days: {LONG_DAYS}, expected_customers: 2000}}
journeys:
{journeys}policy: {{holdout: 0.1, none: "0"}}
"""


SYSTEM = "system"
_NAME = r"w(\d{3})-(\d{6})$"


def _name() -> pl.Expr:
    world, household = pl.col("world").cast(pl.String).str.zfill(3), pl.col("household").cast(pl.String).str.zfill(6)
    return pl.concat_str(pl.lit("w"), world, pl.lit("-"), household)


def make(scenario: str, seed: int, *, count: int, customers: int = 0, days: int) -> Households:  # noqa: ARG001
    """Return copies of the households, with extra baskets where ``scenario`` is ``planted``; how many ``customers`` there are is given."""
    planted = PLANTED if scenario == "planted" else dict.fromkeys(PLANTED, 0.0)
    return Households(planted, seed, count=count, days=days)
