"""Who follows the link of a message, or whose mailbox does it for them, is written to no more that way; and nobody else is.

What belongs here: tokens, and the reference receiver over real connections, into the landing zone and to the consent that comes of it.
What does not: where the link stands in a message (``test_mime``).
"""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.channels.unsubscribe import Declined, Links
from resources.storage.lake import Lake
from sample import unsubscribe
from sample.unsubscribe import Unsubscribing, read_token, serve
from tests.edges.browser import browser
from tests.edges.relay import ENVIRONMENT, SECRET, Relay, channel_to, mails, running
from tests.graph.small_world import DAYS, FIRST, make_world, run

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
OLD = "an-older-secret-of-ours"
LINKS = Links("https://grocer.example/unsubscribe", (SECRET, OLD))
ANN = Declined("c01", "email", "ab" * 16)


@contextmanager
def receiving(landing: Path, now: Callable[[], datetime] = lambda: NOON) -> Iterator[int]:
    """Run the reference receiver on loopback."""
    with serve(Unsubscribing(landing, (SECRET, OLD), ZoneInfo("Europe/Berlin"), now), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, method: str, token: str, body: str | None = "List-Unsubscribe=One-Click") -> tuple[int, str]:
    """Ask for a link, as a mailbox does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, f"/unsubscribe?token={token}", body if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def landed(landing: Path) -> list[dict[str, object]]:
    """All events in the landing zone."""
    return [json.loads(line) for path in sorted(landing.rglob("*")) if path.is_file() for line in path.read_text().splitlines()]


@given(st.builds(Declined, *[st.text(st.characters(exclude_categories=["Cs"]), max_size=30)] * 3), st.sampled_from([SECRET, OLD]))
def test_a_token_tells_what_was_signed(declined: Declined, secret: str) -> None:
    """To us as to the receiver, who shares no code with us; signed with the new secret or with the old one."""
    token = Links("", (secret,)).token(declined)

    assert LINKS.read(token) == declined
    assert read_token(token, LINKS.secrets) == tuple(declined)


TOKEN = LINKS.token(ANN)
DATA, _, SIGNATURE = TOKEN.partition(".")
FORGED = {
    "nothing": "",
    "another secret": Links("", ("a-secret-of-an-attacker",)).token(ANN),
    "no signature": DATA,
    "empty signature": f"{DATA}.",
    "another customer": f"{LINKS.token(Declined('c02', 'email', 'x')).partition('.')[0]}.{SIGNATURE}",
    "longer": f"{TOKEN}A",
    "padded": f"{TOKEN}=",
    "letters": f"{DATA}.ü",
    "dots": "..",
    "a megabyte": "A" * 60_000,
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_none(tmp_path: Path, token: str) -> None:
    """Nothing is written, whoever asks and how."""
    assert LINKS.read(token) is None
    assert read_token(token, LINKS.secrets) is None
    with receiving(tmp_path) as port:
        assert ask(port, "POST", token.replace("ü", "%C3%BC"))[0] in {400, 414}
    assert landed(tmp_path) == []


def test_a_post_unsubscribes_and_again_is_the_same_event(tmp_path: Path) -> None:
    """Whole, in the folder of the day where the calendar is; an hour later it is another, as they may have come back between."""
    at = [datetime(2026, 3, 2, 23, 30, tzinfo=UTC)]
    with receiving(tmp_path, lambda: at[0]) as port:
        assert [ask(port, "POST", TOKEN)[0] for _ in range(3)] == [200] * 3
        assert ask(port, "POST", LINKS.token(Declined("anon:phone", "email", "k")), body="")[0] == 200
        at[0] += timedelta(hours=1)
        assert ask(port, "POST", TOKEN, body="x" * 5_000)[0] == 200

    events = landed(tmp_path)
    assert sorted({path.parent.name for path in tmp_path.rglob("*.ndjson")}) == ["2026-03-03"]
    assert len({event["messageId"] for event in events}) == len(events) == 3
    first, visitor = (next(event for event in events if who in event) for who in ("userId", "anonymousId"))
    assert first | {"messageId": "", "timestamp": ""} == {
        "messageId": "",
        "type": "track",
        "event": "Unsubscribed",
        "userId": "c01",
        "timestamp": "",
        "properties": {"channel": "email", "idempotency_key": ANN.idempotency_key},
    }
    assert visitor["anonymousId"] == "phone"
    assert "userId" not in visitor


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("PUT", 405), ("DELETE", 405), ("OPTIONS", 405)])
def test_nothing_but_a_post_unsubscribes(tmp_path: Path, method: str, status: int) -> None:
    """Programs that look at links before people do would unsubscribe everybody; what they get is a page with a button."""
    with receiving(tmp_path) as port:
        answer, page = ask(port, method, TOKEN)

    assert answer == status
    assert ("<button" in page) == (method == "GET")
    assert landed(tmp_path) == []
    assert "c01" not in page


def test_what_cannot_be_written_is_asked_for_again(tmp_path: Path) -> None:
    """No event, and no word that there is one."""
    (tmp_path / "2026-03-02").write_text("in the way")
    with receiving(tmp_path) as port:
        assert ask(port, "POST", TOKEN)[0] == 503


def test_hostile_requests_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow ones in time, many at once by being sent away, large ones unread; and whoever means it is served meanwhile."""
    monkeypatch.setattr(unsubscribe, "SECONDS", 0.4)
    monkeypatch.setattr(unsubscribe, "MOST_AT_ONCE", 5)
    with receiving(tmp_path) as port:
        slow = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(12)]
        began = time.monotonic()
        for connection in slow[:5]:
            connection.sendall(b"POST /unsubscribe HTTP/1.1\r\nX: ")
        for connection in slow:
            with connection:
                while time.monotonic() - began < 5:
                    try:
                        connection.sendall(b"x")
                        connection.settimeout(0.05)
                        if not connection.recv(1000):
                            break
                    except TimeoutError:
                        continue
                    except OSError:
                        break
        assert time.monotonic() - began < 3
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(f"POST /u?token={TOKEN} HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n".encode())
            connection.sendall(b"x" * 10_000)
            assert connection.recv(1000).startswith(b"HTTP/1.0 200")
    assert len(landed(tmp_path)) == 1


@pytest.mark.slow
def test_who_unsubscribed_is_not_written_to(tmp_path: Path) -> None:
    """The event of the receiver withdraws consent for its channel, and no other, when its day is ingested."""
    environment = make_world(tmp_path)
    landing, lake = Path(environment["ATC_HOME"], "landing"), Lake(root=f"{environment['ATC_HOME']}/lake")
    with receiving(landing, lambda: datetime(*DAYS[1].timetuple()[:3], 10, tzinfo=UTC)) as port:
        assert ask(port, "POST", TOKEN)[0] == 200
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(environment, FIRST, DAYS[1], instance=instance).success
    consent = {
        day: lake.read("customer_profiles", day)
        .filter(pl.col("customer_id").is_in(["c01", "c02"]))
        .sort("customer_id")["consent_email"]
        .to_list()
        for day in DAYS[:2]
    }
    assert consent == {FIRST: [True, True], DAYS[1]: [False, True]}
    assert lake.read("rejected_events", DAYS[1]).filter(pl.col("raw").str.contains("Unsubscribed")).is_empty()


@pytest.mark.slow
def test_the_whole_round_in_a_browser(tmp_path: Path) -> None:
    """From the link in a message that arrived to a page, a button, and an event that names the message."""
    marker = "\ue000unsubscribe_url\ue001"
    with receiving(tmp_path / "landing") as port, browser(tmp_path) as page:
        with running(Relay()) as relay:
            channel_to(relay.port, tmp_path).send(mails("ann", html=f'<a href="{marker}">Unsubscribe</a>'))
        markup = relay.messages()["ann@home.example"].get_body(("html",))
        assert markup is not None
        (tmp_path / "mail.html").write_text(markup.get_content().replace(ENVIRONMENT["ATC_UNSUBSCRIBE_URL"], f"http://127.0.0.1:{port}/u"))
        page.open(f"file://{tmp_path}/mail.html")
        page.until(lambda it: "Unsubscribe" in it.text(), "showed the message")
        page.ask("document.querySelector('a').click()")
        page.until(lambda it: it.ask("!!document.querySelector('button')"), "showed the button")
        assert not (tmp_path / "landing").exists()
        page.ask("document.querySelector('button').click()")
        page.until(lambda it: "You are unsubscribed" in it.text(), "said so")
        assert page.complaints == []
    (event,) = landed(tmp_path / "landing")
    assert event["userId"] == "c-ann"
    assert event["properties"] == {"channel": "email", "idempotency_key": "0" * 32}


def test_the_command_needs_the_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it every link would be forged."""
    monkeypatch.delenv(unsubscribe.SECRET, raising=False)
    monkeypatch.setattr("sys.argv", ["unsubscribe", "--landing", os.devnull])
    with pytest.raises(SystemExit):
        unsubscribe.main()
    assert unsubscribe.SECRET in capsys.readouterr().err
