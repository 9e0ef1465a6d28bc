"""Handing over by the clock: what waits, in which order it goes, who is looked for a last time, and when a channel is left alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from resources.channels.channel import MORE, OUTCOME, Channel, OnUnknown
from resources.delivery.delivery import Terms, deliver
from resources.delivery.ledger import HELD, LEDGER, Ledger
from resources.delivery.round import IN_A_ROW, Health, Round
from resources.delivery.settling import WrongVerdictError, settle_by_hand, settle_by_receipts
from tests.edges.sender import DAY, outbound

DUE = datetime(2026, 1, 6, 10, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path, address: str) -> Ledger:
    """An empty ledger, of each kind."""
    return Ledger.from_environment(str(tmp_path), {LEDGER: address})


@dataclass
class Noted:
    """What a channel has noted: on its way, and no answer."""

    keys: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def answered(self) -> dict[str, str]:
        """Return what was taken."""
        return dict.fromkeys(self.taken, "")

    def noted(self) -> set[str]:
        """Return them."""
        return set(self.keys)

    def forget(self, keys: list[str]) -> None:
        """Forget some."""
        self.keys -= set(keys)


@dataclass
class Relay:
    """A way out that takes nothing before it is due, and answers by customer."""

    answers: dict[str, str] = field(default_factory=dict)
    on_unknown: OnUnknown = "resend"
    schedules: bool = False
    batch_size: int = 100
    is_dry: bool = False
    wait_seconds: float | None = None
    handed: Noted = field(default_factory=Noted)
    sent: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    happens: Callable[[], object] = lambda: None

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """Answer for all messages."""
        self.happens()
        self.batches.append(messages.height)
        self.sent += messages["customer_id"].to_list()
        rows = [
            (key, status := self.answers.get(customer, "delivered"), None, status == "delivered", f"<{key}@here>", self.wait_seconds)
            for key, customer in messages.select("idempotency_key", "customer_id").iter_rows()
        ]
        return pl.DataFrame(rows, schema=OUTCOME | MORE, orient="row")


class Time:
    """Seconds that pass only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.now += seconds

    def run(self, seconds: float | None = None, **per_minute: int) -> Round:
        """Return a run by this clock."""
        return Round(per_minute, seconds, lambda: self.now, self.sleep)


def by_customer(activation: pl.DataFrame, column: str = "status") -> list[str | None]:
    """What a column says, in order of the messages."""
    return activation[column].to_list()


def test_what_is_not_due_waits_where_nobody_else_can_wait(ledger: Ledger) -> None:
    """Before its hour nothing is claimed, and with it the rest goes; a channel that schedules gets all at once."""
    messages = outbound(2, ["email", "website"]).with_columns(send_at=pl.lit(DUE, pl.Datetime("us", "UTC")))
    ways: dict[str, Channel] = {"email": Relay(), "website": Relay(schedules=True)}
    early = deliver(messages, ways, ledger, lambda: DUE - timedelta(seconds=1))
    assert by_customer(early) == ["waiting", "delivered"]
    assert by_customer(early, "attempts") == [0, 1]
    assert by_customer(early, "sent_at") == [None, DUE - timedelta(seconds=1)]
    assert ledger.statuses(messages["idempotency_key"]).height == 1
    late = deliver(messages, ways, ledger, lambda: DUE)
    assert by_customer(late) == ["delivered", "delivered"]
    assert by_customer(late, "provider_id") == [f"<{number:016x}@here>" for number in range(2)]


def test_messages_go_by_their_rank(ledger: Ledger) -> None:
    """The order is the plan's, not that of keys; without a rank it is the hour."""
    messages = outbound(3).with_columns(rank=pl.Series([2, 1, 0]))
    relay = Relay(batch_size=1)
    deliver(messages, {"email": relay}, ledger, lambda: DUE)
    assert relay.sent == ["c2", "c1", "c0"]


def test_what_is_too_late_does_not_go(ledger: Ledger) -> None:
    """A message later than late_hours is stale; one second earlier it goes."""
    terms, limit = Terms(late_hours={"email": 3}), DUE + timedelta(hours=3)
    assert by_customer(deliver(outbound(1), {"email": Relay()}, ledger, lambda: limit + timedelta(seconds=1), terms=terms)) == ["withheld"]
    stale = deliver(outbound(1), {"email": Relay()}, ledger, lambda: limit + timedelta(seconds=1), terms=terms)
    assert by_customer(stale, "reason") == ["stale"]
    assert by_customer(deliver(outbound(1), {"email": Relay()}, ledger, lambda: limit, terms=terms)) == ["delivered"]


def test_a_last_look_is_taken_before_each_batch(ledger: Ledger) -> None:
    """Whoever says no while the batch before theirs goes out gets nothing; what may have arrived already stays unknown."""
    no: list[str] = []

    def object_(batch: pl.DataFrame) -> pl.DataFrame:
        return batch.filter(pl.col("customer_id").is_in(no)).select("idempotency_key", reason=pl.lit("withdrawn"))

    relay = Relay(batch_size=1, happens=lambda: no.append("c1"), answers={"c0": "unknown"})
    first = deliver(outbound(2), {"email": relay}, ledger, lambda: DUE, terms=Terms(object=object_))
    assert by_customer(first) == ["unknown", "withheld"]
    assert by_customer(first, "reason")[1] == "withdrawn"
    no.append("c0")
    assert by_customer(deliver(outbound(2), {"email": relay}, ledger, lambda: DUE, terms=Terms(object=object_))) == ["unknown", "withheld"]
    assert relay.sent == ["c0"]


@pytest.mark.parametrize(
    ("globs", "sent"),
    [((), ["c0", "c1", "c2"]), (("*@ours.example",), ["c0"]), (("C1@Else.*", "c0@ours.example"), ["c0", "c1"]), (("c[0-9]@*",), [])],
)
def test_only_who_is_on_the_list_is_written_to(ledger: Ledger, globs: tuple[str, ...], sent: list[str]) -> None:
    """Patterns are of whole addresses, in any case; who has no address is on no list."""
    addresses = pl.Series(["c0@ours.example", " c1@else.example", None])
    relay = Relay()
    rows = deliver(outbound(3).with_columns(address=addresses), {"email": relay}, ledger, lambda: DUE, terms=Terms(only_to=globs))
    assert relay.sent == sent
    assert rows.filter(status="withheld")["reason"].to_list() == ["not_on_the_list"] * (3 - len(sent))


def test_what_was_rendered_is_what_goes_and_without_it_nothing_does(ledger: Ledger) -> None:
    """The texts are asked for by message; one that has none is withheld, the others go."""
    seen: list[str | None] = []

    class Reader(Relay):
        def send(self, messages: pl.DataFrame) -> pl.DataFrame:
            seen.extend(messages["text"])
            return super().send(messages)

    def with_texts(messages: pl.DataFrame) -> pl.DataFrame:
        text = pl.when(pl.col("customer_id") != "c1").then(pl.lit("Hello"))
        return messages.with_columns(text=text, content_hash=pl.lit("ab"), lacks_text=text.is_null())

    rows = deliver(outbound(3), {"email": Reader()}, ledger, lambda: DUE, terms=Terms(with_texts=with_texts))
    assert by_customer(rows, "reason") == [None, "no_content", None]
    assert seen == ["Hello", "Hello"]
    assert ledger.rows()["content_hash"].to_list() == ["ab", "ab"]


def test_the_pace_is_kept(ledger: Ledger) -> None:
    """No more than so many a minute, with batches of that size at most; a channel without a pace does not wait for one that has it."""
    time, starts = Time(), list[float]()
    slow, fast = Relay(batch_size=100), Relay()
    slow.happens = lambda: starts.append(time.now)
    deliver(outbound(50, ["email", "website"]), {"email": slow, "website": fast}, ledger, lambda: DUE, run=time.run(email=10))
    assert slow.batches == [10, 10, 5]
    assert starts == [0.0, 60.0, 120.0]
    assert fast.batches == [25]


def test_a_run_ends_in_time_and_the_rest_waits(ledger: Ledger) -> None:
    """What the pace does not let through within the run's time waits for the next one, which goes on where it ended."""
    time, relay = Time(), Relay()
    rows = deliver(outbound(25), {"email": relay}, ledger, lambda: DUE, run=time.run(seconds=100, email=10))
    assert rows["status"].value_counts().sort("status").rows() == [("delivered", 20), ("waiting", 5)]
    assert time.now <= 100
    deliver(outbound(25), {"email": relay}, ledger, lambda: DUE, run=time.run(email=10))
    assert sorted(relay.sent) == sorted(f"c{number}" for number in range(25))


def test_a_receiver_that_asks_for_a_pause_stops_its_channel(ledger: Ledger) -> None:
    """Retry-After is for the channel: the next batch waits for it; where it is too long, the rest waits for another run."""
    time = Time()
    relay = Relay(batch_size=1, wait_seconds=30.0)
    deliver(outbound(2), {"email": relay}, ledger, lambda: DUE, run=time.run())
    assert time.now == 30.0
    relay, run = Relay(batch_size=1, wait_seconds=3600.0), time.run()
    rows = deliver(outbound(4).tail(2), {"email": relay}, ledger, lambda: DUE, run=run)
    assert by_customer(rows) == ["delivered", "waiting"]
    assert run.stopped == {"email": "its receiver asked to be left alone for 3,600 seconds"}


def test_a_channel_that_fails_is_left_alone_and_the_others_go_on(ledger: Ledger) -> None:
    """Fifty messages in a row: the rest of that channel waits, also on the run's next day; nothing of another channel does."""
    bad = Relay(answers={f"c{number}": "failed" for number in range(0, 300, 2)}, batch_size=25)
    run = Time().run()
    rows = deliver(outbound(300, ["email", "website"]), {"email": bad, "website": Relay()}, ledger, lambda: DUE, run=run)
    assert len(bad.sent) == IN_A_ROW
    assert rows.filter(channel="website")["status"].unique().to_list() == ["delivered"]
    assert rows.filter(channel="email")["status"].value_counts().sort("status").rows() == [("failed", 50), ("waiting", 100)]
    assert run.stopped == {"email": "50 messages in a row were not delivered"}
    more = outbound(302, ["email", "website"]).tail(2)
    assert by_customer(deliver(more, {"email": bad, "website": Relay()}, ledger, lambda: DUE, run=run)) == ["waiting", "delivered"]


def test_a_fifth_of_the_last_five_hundred_is_too_much() -> None:
    """A hundred failures among five hundred are borne, the next is not; and old ones are forgotten."""
    health = Health()
    health.note([True, True, True, True, False] * 100)
    assert health.trouble is None
    health.note([False])
    assert health.trouble == "101 of the last 500 messages were not delivered"
    health.note([True] * 500)
    assert health.trouble is None


def test_a_channel_that_is_held_sends_nothing(ledger: Ledger) -> None:
    """Not before somebody accepts how much it is; what was delivered before stays delivered."""
    relay = Relay()
    deliver(outbound(1), {"email": relay}, ledger, lambda: DUE)
    rows = deliver(outbound(2), {"email": relay}, ledger, lambda: DUE, terms=Terms(held=["email"]))
    assert by_customer(rows) == ["delivered", "held"]
    assert relay.sent == ["c0"]


def test_what_may_have_arrived_is_held_where_it_would_arrive_twice(ledger: Ledger) -> None:
    """It is not sent again by any run, and says so; a channel whose receiver knows the key sends it again."""
    relay = Relay(answers={"c0": "unknown"}, on_unknown="hold")
    for _ in range(2):
        rows = deliver(outbound(1), {"email": relay}, ledger, lambda: DUE)
        assert by_customer(rows) == ["unknown"]
    assert relay.sent == ["c0"]
    assert by_customer(rows, "attempts") == [1]
    deliver(outbound(1), {"email": Relay()}, ledger, lambda: DUE)
    assert ledger.statuses(outbound(1)["idempotency_key"])["status"].to_list() == ["delivered"]


def test_of_a_dead_sender_only_what_was_on_its_way_is_held(ledger: Ledger, address: str) -> None:
    """Claimed and not noted was certainly not sent, and goes now; claimed and noted may have arrived. On a server another host may have
    noted it where nobody here can see, and all that was claimed is held."""
    messages = outbound(2)
    with ledger.sender() as dead:
        ledger.claim(messages, DUE, dead)
    relay = Relay(on_unknown="hold", handed=Noted({messages["idempotency_key"][0]}))
    rows = deliver(messages, {"email": relay}, ledger, lambda: DUE)
    assert by_customer(rows) == ["unknown", "unknown" if address else "delivered"]
    assert by_customer(rows, "reason")[0] == HELD
    assert relay.sent == ([] if address else ["c1"])


def test_what_was_taken_before_its_sender_died_is_delivered_whatever_is_said_since(ledger: Ledger) -> None:
    """The relay's answer was noted and the ledger was not written: the message is out, and no objection makes it unknown or withheld."""
    messages = outbound(2)
    with ledger.sender() as dead:
        ledger.claim(messages, DUE, dead)
    no = messages.select("idempotency_key", reason=pl.lit("withdrawn"))
    relay = Relay(on_unknown="hold", handed=Noted(taken={messages["idempotency_key"][0]}))
    rows = deliver(messages, {"email": relay}, ledger, lambda: DUE, terms=Terms(object=lambda _: no))
    assert by_customer(rows)[1] == "unknown"
    assert by_customer(rows)[0] == ("delivered" if not ledger.is_shared else "unknown")


def test_what_may_have_gone_out_by_one_channel_never_goes_by_another(ledger: Ledger) -> None:
    """The key of a step is the same whichever of its channels is chosen: delivered or unknown, it is out; failed, the plan may choose."""
    answers = {"c0": "delivered", "c1": "unknown", "c2": "failed"}
    messages, relay = outbound(3), Relay()
    deliver(messages, {"email": Relay(answers=answers)}, ledger, lambda: DUE)
    replanned = messages.with_columns(channel=pl.lit("app"))
    assert by_customer(deliver(replanned, {"app": relay}, ledger, lambda: DUE)) == ["delivered", "unknown", "delivered"]
    assert relay.sent == ["c2"]


def test_receipts_and_people_settle_what_is_unknown(ledger: Ledger) -> None:
    """An event goes by the key or by the Message-ID; a person by the key, and only of what is unknown; all or nothing."""
    messages = outbound(4)
    deliver(messages, {"email": Relay(answers=dict.fromkeys(["c0", "c1", "c2"], "unknown"), on_unknown="hold")}, ledger, lambda: DUE)
    keys = messages["idempotency_key"].to_list()
    told = pl.DataFrame(
        {"key": [keys[0], None, keys[3]], "message_id": [None, f"{keys[1]}@here", None]}, schema_overrides={"key": pl.String}
    )
    assert settle_by_receipts(ledger, told, DAY).sort().to_list() == keys[:2]
    with pytest.raises(WrongVerdictError, match=f"{keys[3]} is delivered, and was not unknown"):
        settle_by_hand(ledger, {keys[2]: "failed", keys[3]: "failed"})
    with pytest.raises(WrongVerdictError, match="'lost': expected one of delivered, failed"):
        settle_by_hand(ledger, {keys[2]: "lost"})
    with pytest.raises(WrongVerdictError, match="the key of no message"):
        settle_by_hand(ledger, {"none": "failed"})
    assert ledger.unknown(DAY)["idempotency_key"].to_list() == [keys[2]]
    assert settle_by_hand(ledger, {keys[2]: "failed"}).to_list() == [keys[2]]
    relay = Relay(on_unknown="hold")
    assert by_customer(deliver(messages, {"email": relay}, ledger, lambda: DUE)) == ["delivered"] * 4
    assert relay.sent == ["c2"]
