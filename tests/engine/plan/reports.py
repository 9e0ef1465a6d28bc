"""A report written by hand: what plan would say of a month in which a journey, a priority and a segment changed.

What belongs here: one report with something in every part. What does not: any test.
"""

from datetime import date, timedelta

from atc_pipeline.plan.report import (
    Changed,
    Contact,
    Counts,
    Customers,
    Edited,
    Example,
    Figures,
    Moved,
    OfArm,
    OfCap,
    OfChannel,
    OfDay,
    OfJourney,
    OfSegment,
    Report,
    Scale,
    Value,
    Verdict,
    Window,
)

FIRST, LAST = date(2017, 6, 1), date(2017, 6, 30)


def counts(before: int, after: int | None = None) -> Counts:
    """A number before and after; the same unless said."""
    return Counts(before=before, after=before if after is None else after)


def figures(before: float | None, after: float | None) -> Figures:
    """A measure before and after."""
    return Figures(before=before, after=after)


def journey(id_: str, **parts: object) -> OfJourney:
    """A journey that nothing happens to, but for these parts."""
    same: dict[str, object] = {
        "name": id_,
        "how": "same",
        "queued": counts(900),
        "entered": counts(40),
        "gained": 0,
        "gained_from": (),
        "lost": 0,
        "lost_to": (),
        "waiting_days": figures(12.0, 12.0),
        "starved": counts(0),
        "places": figures(None, None),
        "wanted": counts(40),
        "price": figures(None, None),
    }
    return OfJourney.model_validate({"id": id_, **same, **parts})


SPRING_SALE = journey(
    "spring_sale",
    name="Spring sale",
    how="new",
    queued=counts(0, 4210),
    entered=counts(0, 240),
    gained=240,
    gained_from=(
        Moved(journey_id="none", customers=151),
        Moved(journey_id="winback", customers=66),
        Moved(journey_id="flowers", customers=15),
        Moved(journey_id="eat_well", customers=6),
        Moved(journey_id="weekday_stock_up", customers=2),
    ),
    waiting_days=figures(None, 9.4),
    starved=counts(0, 12),
    places=figures(None, 240),
    wanted=counts(0, 388),
    price=figures(None, 0.1934),
)
WINBACK = journey(
    "winback",
    how="changed",
    queued=counts(10_204),
    entered=counts(118, 91),
    gained=39,
    gained_from=(Moved(journey_id="none", customers=39),),
    lost=66,
    lost_to=(Moved(journey_id="spring_sale", customers=66),),
    waiting_days=figures(44.2, 46.0),
    wanted=counts(118, 91),
)
REPORT = Report(
    verdict=Verdict(
        headline="12.1 % of customers (301 of 2,487) would be in another journey; spring_sale would take 240 of them, "
        "mostly from none and winback.",
        is_reproducible=True,
    ),
    window=Window(first=FIRST, last=LAST, days=30, file="journeys.yaml", before=None, after="3f2a91c0d4e5"),
    changes=(
        Changed(kind="journey", id="spring_sale", how="new", gist="14 days, 3 messages, queue: any of lapsing_regulars", edits=()),
        Changed(
            kind="journey",
            id="winback",
            how="changed",
            gist="",
            edits=(
                Edited(key="priority", before="20", after="30", words="priority 20 → 30"),
                Edited(key="queue.any", before="lapsed, campaign_only", after="lapsed", words="queue.any without campaign_only"),
            ),
        ),
        Changed(
            kind="segment",
            id="once_big_now_small",
            how="changed",
            gist="",
            edits=(
                Edited(
                    key="condition",
                    before="biggest_basket >= 150 and days_since_first_order >= 90 and spend_30d < 60",
                    after="biggest_basket >= 200 and days_since_first_order >= 90 and spend_30d < 60",
                    words="condition biggest_basket >= 150 and days_since_first_order >= 90 and spend_30d < 60 → "
                    "biggest_basket >= 200 and days_since_first_order >= 90 and spend_30d < 60",
                ),
            ),
        ),
        Changed(kind="trait", id="late_orders_90d", how="removed", gist="count of Order Completed, last 90 days", edits=()),
    ),
    customers=Customers(
        customers=2487,
        changed=301,
        by_day=tuple(
            OfDay(date=FIRST + timedelta(days=day), customers=2400 + day, changed=min(4 + 9 * day, 214 - 2 * (day % 3)))
            for day in range(30)
        ),
    ),
    journeys=(
        SPRING_SALE,
        WINBACK,
        journey(
            "flowers", entered=counts(210, 201), lost=15, lost_to=(Moved(journey_id="spring_sale", customers=15),), places=figures(450, 450)
        ),
        *(journey(f"journey_{number}") for number in range(15)),
    ),
    contact=Contact(
        none=counts(41_209, 39_003),
        channels=(OfChannel(channel="email", messages=counts(2210, 2391)), OfChannel(channel="app", messages=counts(1800, 1800))),
        caps=(OfCap(cap="policy.cap", reached=counts(120, 154)),),
    ),
    segments=(
        OfSegment(id="once_big_now_small", how="changed", size=counts(310, 122), in_no_queue=counts(40, 12)),
        OfSegment(id="newcomers", how="same", size=counts(7, 0), in_no_queue=counts(0)),
        OfSegment(id="campaign_only", how="same", size=counts(0), in_no_queue=counts(0)),
        *(OfSegment(id=f"segment_{number}", how="same", size=counts(100), in_no_queue=counts(3)) for number in range(40)),
    ),
    arms=(
        OfArm(journey_id="spring_sale", changes_arm=0, treated=counts(0, 217), control=counts(0, 23), base_rate=0.5, visible=0.3074),
        OfArm(journey_id="winback", changes_arm=0, treated=counts(118, 91), control=counts(0), base_rate=0.5, visible=None),
    ),
    value=Value(
        is_known=True,
        says="-0.42 net money per decision, where anything from -0.71 to -0.13 is possible: of 9,120 decisions ...",
        notes=("Nothing is said of switch_margin: who is interrupted is never drawn by chance.",),
        first=date(2017, 5, 1),
        last=date(2017, 5, 30),
        points=9_120,
        disagree=0.21,
        unsupported=0.61,
        effective=312.0,
        difference=-0.42,
        low=-0.71,
        high=-0.13,
        status="ok",
        score=figures(16_210.4, 16_902.0),
    ),
    scale=Scale(best=figures(0.45, 0.12), none=figures(0.0, 0.0), below=counts(31, 840)),
    examples=(
        Example(
            bucket=4711,
            customer_id="2462",
            date=date(2017, 6, 17),
            before="winback",
            after="spring_sale",
            says="Spring sale scores 0.4484, win-back 0.3921: priority 30, waiting for 12 days.",
        ),
        Example(bucket=12, customer_id="17", date=date(2017, 6, 2), before="none", after="spring_sale", says=""),
    ),
    limits=("1 June is exact. The days after it are open loop: customers behave as they did, and goals reached stay reached.",),
)
