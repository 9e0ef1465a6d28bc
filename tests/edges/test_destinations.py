"""Destinations: what they are told over a wire, what each answer means, and that they have exactly the members whatever happens between."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.activation import differences
from atc_pipeline.identity.erasure import Person
from resources.channels.connected import WrongSettingError
from resources.delivery import moving
from resources.delivery.ledger import LEDGER, Ledger
from resources.delivery.memberships import Memberships
from resources.delivery.synchronizing import GIVEN_UP_AFTER, synchronize
from resources.destinations.connected import Destinations
from resources.destinations.destination import Destination, Rehearsal
from resources.destinations.file import FileDestination
from resources.destinations.https import HttpsDestination
from resources.destinations.posting import Post
from resources.destinations.segment import SegmentDestination
from resources.erasure.members import Members
from resources.storage.outbox import Outbox
from tests.edges.collecting import SECRET, WRITE_KEY, Collecting, Posted, SegmentApi, wait_until
from tests.edges.postgres import Postgres
from tests.edges.sender import processes
from tests.edges.telling import DAY, KEYS, differing, tell_all, wall_clock, wanted


def sync(want: pl.DataFrame, destination: Destination, memberships: Memberships) -> dict[str, str]:
    """Tell the destination what differs; return what became of each customer."""
    rows = synchronize(differing(want, memberships.rows()), {"there": destination}, memberships, wall_clock)
    return dict(rows.select("customer_id", "status").iter_rows())


@pytest.fixture
def memberships(tmp_path: Path) -> Memberships:
    """What destinations have, in a home of its own."""
    return Memberships(Ledger(home=str(tmp_path / "home")))


@pytest.fixture
def segment() -> Iterator[SegmentApi]:
    """Segment's API."""
    with SegmentApi() as running:
        yield running


@pytest.fixture
def posted() -> Iterator[Posted]:
    """A destination that is posted to."""
    with Posted() as running:
        yield running


def to_segment(api: Collecting, key: str = WRITE_KEY, retries: int = 2) -> SegmentDestination:
    """The way to it."""
    return SegmentDestination(Post(api.url, wall_clock, retries=retries, backoff_seconds=0), key)


def to_posted(api: Collecting, keys: Sequence[bytes] = KEYS, most: int = 10_000, retries: int = 2) -> HttpsDestination:
    """The way to it."""
    return HttpsDestination(Post(api.url, wall_clock, retries=retries, backoff_seconds=0), keys, wall_clock, most)


def test_members_are_told_once_and_removed_as_they_were_sent(posted: Posted, memberships: Memberships) -> None:
    """In, not again, changed (out with the old identifiers, then in with the new), and out."""
    there = to_posted(posted)
    assert sync(wanted(["ann", "bob"]), there, memberships) == {"ann": "acknowledged", "bob": "acknowledged"}
    assert sync(wanted(["ann", "bob"]), there, memberships) == {}
    assert sync(wanted(["ann"], version="2"), there, memberships) == {"ann": "acknowledged", "bob": "acknowledged"}
    told = [(row["operation"], row["customer_id"], row["identifiers"]) for rows in posted.requests[1:] for row in rows]
    assert told == [("remove", "ann", {"id": "ann"}), ("remove", "bob", {"id": "bob"}), ("add", "ann", {"id": "ann2"})]
    assert posted.people == {("club", "ann"): {"id": "ann2"}}
    assert memberships.rows()["customer_id"].to_list() == ["ann"]


def test_no_request_has_more_than_a_destination_takes(posted: Posted, memberships: Memberships) -> None:
    """Two at a time."""
    sync(wanted([f"c{number}" for number in range(5)]), to_posted(posted, most=2), memberships)
    assert [len(rows) for rows in posted.requests] == [2, 2, 1]
    assert to_posted(posted).most == to_segment(posted).most == Rehearsal().most == 10_000


def test_each_row_has_its_own_answer(posted: Posted, memberships: Memberships) -> None:
    """One that is refused is not remembered as there, and differs again; the rest is done."""
    assert sync(wanted(["ann", "bad", "cid"]), to_posted(posted), memberships) == {
        "ann": "acknowledged",
        "bad": "failed",
        "cid": "acknowledged",
    }
    assert memberships.rows()["customer_id"].to_list() == ["ann", "cid"]
    posted.refuses_batches = True
    assert sync(wanted(["ann", "bad", "cid", "dan"]), to_posted(posted), memberships) == {"bad": "failed", "dan": "acknowledged"}


@pytest.mark.parametrize(
    ("answer", "status"),
    [((None, {}, True), "unknown"), ((None, {}, False), "unknown"), ((403, {}, False), "failed"), ((502, {}, True), "unknown")],
)
def test_what_was_not_acknowledged_is_told_again(
    posted: Posted, memberships: Memberships, answer: tuple[int | None, dict[str, str], bool], status: str
) -> None:
    """And whoever may be there after all is removed when they left meanwhile: that is why it is written down before."""
    there = to_posted(posted, retries=0)
    posted.answers.append(answer)
    assert sync(wanted(["ann", "bob"]), there, memberships) == dict.fromkeys(["ann", "bob"], status)
    assert memberships.rows().filter(pl.col("acknowledged_at").is_not_null()).is_empty()
    outcome = sync(wanted(["ann"]), there, memberships)
    assert outcome == ({"ann": "acknowledged", "bob": "acknowledged"} if status == "unknown" else {"ann": "acknowledged"})
    assert set(posted.people) == {("club", "ann")}


def test_whoever_could_not_be_removed_is_not_added_yet(posted: Posted, memberships: Memberships) -> None:
    """Out first: else both would be there, and nobody would know the older identifiers any more."""
    there = to_posted(posted, retries=0)
    sync(wanted(["ann"]), there, memberships)
    posted.answers.append((500, {}, False))
    assert sync(wanted(["ann"], version="2"), there, memberships) == {"ann": "unknown"}
    assert memberships.rows()["identifiers"].to_list() == ['{"id":"ann"}']
    assert sync(wanted(["ann"], version="2"), there, memberships) == {"ann": "acknowledged"}
    assert posted.people == {("club", "ann"): {"id": "ann2"}}


def test_a_destination_that_is_down_is_given_up(posted: Posted, memberships: Memberships) -> None:
    """After three requests in a row; the rest is not tried, and told next time."""
    posted.answers.extend([(503, {}, False)] * GIVEN_UP_AFTER)
    names = [f"c{number}" for number in range(9)]
    outcome = sync(wanted(names), to_posted(posted, most=1, retries=0), memberships)
    assert list(outcome.values()).count("unknown") == GIVEN_UP_AFTER
    assert len(posted.sizes) == GIVEN_UP_AFTER
    assert set(sync(wanted(names), to_posted(posted), memberships).values()) == {"acknowledged"}


def test_a_signature_is_verified_by_the_library_old_and_new(posted: Posted, memberships: Memberships) -> None:
    """Whoever has either secret lets it in; whoever has none does not."""
    newer = b"another secret, of 24 or more"
    assert sync(wanted(["ann"]), to_posted(posted, [newer, *KEYS]), memberships) == {"ann": "acknowledged"}
    assert sync(wanted(["bob", "ann"]), to_posted(posted, [newer]), memberships) == {"bob": "failed"}


def test_a_destination_that_asks_for_time_is_given_it(segment: SegmentApi, memberships: Memberships) -> None:
    """429 with Retry-After, and then taken by the same run."""
    segment.answers.append((429, {"Retry-After": "0"}, False))
    assert sync(wanted(["ann"]), to_segment(segment), memberships) == {"ann": "acknowledged"}
    assert len(segment.sizes) == 2


def test_segment_is_told_by_traits(segment: SegmentApi, memberships: Memberships) -> None:
    """Of a user and of a visitor, without any address of theirs; and of whoever left that they have."""
    there = to_segment(segment)
    sync(wanted(["ann", "anon:v1"], fields='{"spend":1.5}'), there, memberships)
    ann, visitor = segment.requests[0]
    assert ann["traits"] == {"audience_club": True, "spend": 1.5}
    assert (ann["type"], ann["userId"], ann["context"]["library"]["name"]) == ("identify", "ann", "atc_pipeline")
    assert (visitor["anonymousId"], "userId" in visitor, "identifiers" in visitor) == ("v1", False, False)
    sync(wanted(["ann"], fields='{"spend":1.5}'), there, memberships)
    assert segment.requests[1][0]["traits"] == {"audience_club": False}
    assert set(segment.people) == {("club", "ann")}


def test_segment_is_told_the_one_answer(segment: SegmentApi, memberships: Memberships) -> None:
    """By the name that the contract gives it, once where it changed, and with nulls once there is none."""
    answer = wanted(["ann"], audience="answer", fields='{"journey":"club"}')
    there = to_segment(segment)
    sync(answer, there, memberships)
    changed = answer.with_columns(checksum=pl.lit("other"), fields=pl.lit('{"journey":"tea"}'))
    sync(changed, there, memberships)
    sync(wanted([]), there, memberships)
    assert [[event["traits"] for event in events] for events in segment.requests] == [
        [{"journey": "club"}],
        [{"journey": "tea"}],
        [{"journey": None, "journey_entered_on": None, "journey_ends_on": None}],
    ]
    names = pl.DataFrame({"destination": ["there"], "customer_id": ["ann"], "date": [DAY]})
    assert segment.requests[0][0]["messageId"] == names.select(differences.message_id("destination", "customer_id", "date")).item()
    assert memberships.rows().is_empty()


def test_segments_limits_are_kept(segment: SegmentApi, memberships: Memberships) -> None:
    """500 kB a batch; an event above 32 kB is refused alone, and before it is sent."""
    large = json.dumps({"note": "x" * 20_000})
    too_large = wanted(["huge"], fields=json.dumps({"note": "x" * 33_000}))
    names = [f"c{number:02}" for number in range(60)]
    outcome = sync(pl.concat([wanted(names, fields=large), too_large]), to_segment(segment), memberships)
    assert outcome == dict.fromkeys(names, "acknowledged") | {"huge": "failed"}
    assert len(segment.requests) == 3
    assert max(segment.sizes) <= 500_000


def test_one_bad_row_in_a_batch_is_found_alone(segment: SegmentApi, memberships: Memberships) -> None:
    """Segment refuses the batch with 400: it is halved until the row is alone, and the rest is taken."""
    names = ["anon:", *(f"c{number}" for number in range(9))]
    outcome = sync(wanted(names), to_segment(segment), memberships)
    assert outcome == dict.fromkeys(names, "acknowledged") | {"anon:": "failed"}
    assert ("club", "c8") in segment.people


@pytest.mark.parametrize(("answer", "requests"), [((401, {}, False), 1), ((413, {}, False), 4)])
def test_what_a_refusal_means(
    segment: SegmentApi, memberships: Memberships, answer: tuple[int, dict[str, str], bool], requests: int
) -> None:
    """A wrong write key is refused as a whole and at once; too large a batch is divided."""
    segment.answers.append(answer)
    sync(wanted(["ann", "bob", "cid"]), to_segment(segment), memberships)
    assert len(segment.sizes) <= requests
    assert len(memberships.rows()) == (0 if answer[0] == 401 else 3)


def test_files_are_whole_and_in_order(tmp_path: Path, memberships: Memberships) -> None:
    """One of each request, removals before; what cannot be written has certainly not arrived."""
    there = FileDestination("there", Outbox(tmp_path / "outbox"), wall_clock)
    sync(wanted(["ann", "bob"]), there, memberships)
    sync(wanted(["ann"], version="2"), there, memberships)
    files = sorted((tmp_path / "outbox" / f"date={DAY}").iterdir())
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [(row["operation"], row["customer_id"]) for row in rows] == [
        ("add", "ann"), ("add", "bob"), ("remove", "ann"), ("remove", "bob"), ("add", "ann"),
    ]  # fmt: skip
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert sync(wanted(["ann", "cid"], version="2"), FileDestination("there", Outbox(blocked), wall_clock), memberships) == {
        "cid": "failed"
    }


def test_a_rehearsal_leaves_no_trace(tmp_path: Path) -> None:
    """It says what would be sent, and there is no ledger after it."""
    memberships = Memberships(Ledger(home=str(tmp_path / "home")))
    assert sync(wanted(["ann"]), Rehearsal(), memberships) == {"ann": "would_send"}
    assert not list(tmp_path.iterdir())


def test_the_ledger_beside_it_is_kept_when_one_of_the_two_is_forgotten(memberships: Memberships) -> None:
    """Either table is written anew without somebody; the other one is as it was, and still knows its keys."""
    memberships.claim(wanted(["ann", "bob"]))
    message = {"idempotency_key": ["k"], "date": [DAY], "customer_id": ["ann"], "journey_id": ["j"], "channel": ["e"], "decision": ["{}"]}
    memberships.ledger.claim(pl.DataFrame(message), wall_clock())
    memberships.forget(["bob"])
    memberships.ledger.forget(["somebody"])
    assert (memberships.rows()["customer_id"].to_list(), memberships.ledger.rows()["idempotency_key"].to_list()) == (["ann"], ["k"])
    memberships.claim(wanted(["ann"], version="2"))
    assert memberships.rows()["identifiers"].to_list() == ['{"id":"ann2"}']
    memberships.ledger.forget(["ann"])
    assert memberships.ledger.rows().is_empty()
    assert len(memberships.rows()) == 1


@pytest.mark.slow
def test_memberships_are_the_same_in_postgresql(
    tmp_path: Path, server: Postgres, posted: Posted, memberships: Memberships, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same statements; and those of a file are moved over with the ledger."""
    address = server.database()
    sync(wanted(["ann", "bob"]), to_posted(posted), memberships)
    monkeypatch.setenv(LEDGER, address)
    elsewhere = Ledger.from_environment(str(tmp_path / "home"), os.environ)
    assert moving.move(str(tmp_path / "home"), elsewhere) == 2
    there = Memberships(elsewhere)
    assert there.rows().equals(memberships.rows())
    (tmp_path / "home" / "ledger.duckdb").unlink()
    assert sync(wanted(["ann", "cid"], version="2"), to_posted(posted), there) == dict.fromkeys(["ann", "bob", "cid"], "acknowledged")
    assert {customer for _, customer in posted.people} == set(there.rows()["customer_id"]) == {"ann", "cid"}
    there.forget(["ann"])
    assert there.rows()["customer_id"].to_list() == ["cid"]


def connected(monkeypatch: pytest.MonkeyPatch, text: str, **more: str) -> dict[str, Destination]:
    """Connect the destinations segment, crm and events as the environment says."""
    environment = {"ATC_DESTINATIONS": text, "ATC_LIVE": "true", "ATC_WEBHOOK_SECRET": SECRET, "ATC_SEGMENT_WRITE_KEY": WRITE_KEY} | more
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Destinations.from_environment("/home", environment).connect(["segment", "crm", "events"], wall_clock)


def test_the_environment_says_how_each_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """By scheme; whoever is not named writes files, and nobody is told in a dry run."""
    ways = connected(monkeypatch, "segment=segment://, crm=https://crm.example/hook?t=1")
    assert [type(ways[name]) for name in ("segment", "crm", "events")] == [SegmentDestination, HttpsDestination, FileDestination]
    assert isinstance(ways["segment"], SegmentDestination)
    assert ways["segment"].post.url == "https://api.segment.io/v1/batch"
    assert "crm.example" not in repr(ways)
    assert WRITE_KEY not in repr(ways)
    assert set(connected(monkeypatch, "events=file", ATC_LIVE="").values()) == {Rehearsal()}


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("segmnt=segment://", {}, "'segmnt', which no audience and no publish of journeys.yaml names; nearest: 'segment'"),
        ("crm=hush", {}, "no address for 'crm' that is understood"),
        ("crm=https://hu sh", {}, "has blanks"),
        ("crm=file,crm=file", {}, "names a destination twice, for 'crm'"),
        ("hush", {}, "no destination in entry 1 of 1"),
        ("crm=https://hush.example", {"ATC_WEBHOOK_SECRET": ""}, "ATC_WEBHOOK_SECRET is not set"),
        ("crm=https://hush.example", {"ATC_WEBHOOK_SECRET": "whsec_hush!"}, "no base64"),
        ("segment=segment://", {"ATC_SEGMENT_WRITE_KEY": ""}, "ATC_SEGMENT_WRITE_KEY is not set"),
        ("crm=file", {"ATC_LIVE": "yes"}, "ATC_LIVE is 'yes'"),
    ],
)
def test_a_setting_that_is_not_understood_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, more: dict[str, str], says: str) -> None:
    """With what was expected, and without a part of it that may be a secret."""
    with pytest.raises(WrongSettingError) as refused:
        connected(monkeypatch, text, **more)
    assert says in str(refused.value)
    assert "hush" not in str(refused.value)


def kill_at(number: int, posted: Posted) -> Callable[[int], None]:
    """Return what kills a process when the destination has got so many requests."""
    began = len(posted.sizes)

    def kill(process: int) -> None:
        wait_until(lambda: len(posted.sizes) >= began + number)
        os.kill(process, signal.SIGKILL)

    return kill


@pytest.mark.slow
def test_a_kill_between_telling_and_writing_it_down_costs_nothing(tmp_path: Path, posted: Posted) -> None:
    """Whatever was told, and of whomever: in the end the destination has exactly the members, though they changed after every kill."""
    names, drawn = [f"c{number}" for number in range(12)], random.Random(7)  # noqa: S311
    memberships = Memberships(Ledger(home=str(tmp_path)))
    context, kills = processes(), 0
    for _ in range(6):
        want = wanted(drawn.sample(names, 8), version=str(drawn.randrange(2)))
        process = context.Process(target=tell_all, args=(want, str(tmp_path), posted.url))
        kill = kill_at(drawn.randrange(1, 4), posted)
        process.start()
        assert process.pid is not None
        kill(process.pid)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert {customer for _, customer in posted.people} <= set(memberships.rows()["customer_id"])
    final = wanted(names[:5], version="9")
    tell_all(final, str(tmp_path), posted.url)
    assert kills >= 3
    assert {customer: told["id"] for (_, customer), told in posted.people.items()} == {name: f"{name}9" for name in names[:5]}
    assert memberships.rows()["customer_id"].to_list() == names[:5]


def test_whoever_is_erased_is_removed_before_they_are_forgotten(posted: Posted, memberships: Memberships) -> None:
    """By the identifiers that were sent; as long as a destination has not confirmed it, they are found, with its name."""
    person = Person(frozenset({"ann"}))
    sync(wanted(["ann", "bob"]), to_posted(posted), memberships)
    deaf = Members(memberships, lambda names: dict.fromkeys(names, Rehearsal()), wall_clock)
    assert (deaf.find(person).theirs, deaf.find(person).file) == (1, "at there")
    deaf.remove(person)
    assert deaf.find(person)
    Members(memberships, lambda names: dict.fromkeys(names, to_posted(posted)), wall_clock).remove(person)
    assert not deaf.find(person)
    assert posted.requests[-1][0]["identifiers"] == {"id": "ann"}
    assert set(posted.people) == {("club", "bob")}
    assert b"ann" not in Path(memberships.place).read_bytes()
