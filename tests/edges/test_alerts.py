"""What people are told when something fails: over a real connection, and never more than they should know."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from resources.channels.alerts import ALERTS, MOST_LINES, check_setting, tell


class Slack:
    """A server that takes texts, and answers as it is told."""

    def __init__(self) -> None:
        self.status, self.bodies = 200, list[dict[str, Any]]()
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                slack.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(slack.status)
                self.send_header("Location", self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/s3cret-token"


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    """A server that is up."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Slack()
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


def test_a_text_arrives_as_one_that_is_no_markup(slack: Slack) -> None:
    """Names of events can mention a channel, or hide a line; they do neither."""
    heard: list[str] = []
    assert tell(["run failed", "• <!channel> a&b\nsecond"], {ALERTS: slack.url}, heard.append)
    assert slack.bodies == [{"text": "run failed\n• &lt;!channel&gt; a&amp;b\\nsecond"}]
    assert heard == []


def test_of_many_lines_the_first_are_sent_and_the_rest_counted(slack: Slack) -> None:
    """A thousand checks are one message."""
    tell([f"line {number}" for number in range(MOST_LINES + 3)], {ALERTS: slack.url}, print)
    assert slack.bodies[0]["text"].endswith(f"line {MOST_LINES - 1}\n… and 3 more lines")


def test_nothing_is_sent_where_nothing_is_configured(slack: Slack) -> None:
    """Nobody is told unless somebody said whom."""
    for environment in ({}, {ALERTS: ""}, {ALERTS: "  "}):
        assert not tell(["run failed"], environment, print)
    assert slack.bodies == []


@pytest.mark.parametrize("status", [302, 403, 500])
def test_a_refusal_is_logged_without_the_url(slack: Slack, status: int) -> None:
    """The token is part of the URL, and the log is read by many; a redirect is not followed."""
    slack.status, heard = status, list[str]()
    assert not tell(["run failed"], {ALERTS: slack.url}, heard.append)
    assert heard == [f"{ALERTS}: answered {status}: nobody was told"]
    assert len(slack.bodies) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/s3cret-token", "s3cret-token", "http://s3cret-token.invalid/x"])
def test_an_address_where_nobody_is_is_logged_without_the_url(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with it, the sensor goes on and the log does not repeat it."""
    heard: list[str] = []
    assert not tell(["run failed"], {ALERTS: url, "no_proxy": "*"}, heard.append)
    check_setting({ALERTS: url})
    assert len(heard) == 1
    assert "s3cret" not in heard[0] + caplog.text
