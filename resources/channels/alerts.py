"""Telling people that something needs them: one text to one webhook, as Slack and those that speak like it take it.

What belongs here: how a text becomes a request, and that nothing comes of it when it cannot be sent. What does not: what is told, and
when (``assets.jobs``), messages to customers (``webhook``).
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence

from atc_pipeline.escaping import MOST_LOGGED, plain
from resources.channels import wire

ALERTS = "ATC_ALERT_WEBHOOK"
"""The environment variable with the URL. It is a secret: it is read when something is told, and is part of no configuration, log or
message."""
TIMEOUT_SECONDS = 5.0
MOST_LINES = 12
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""What Slack takes for mentions and links; it names these three, and no others."""


def tell(lines: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Send some lines, of which the first says what it is about; return whether they were taken. Nothing is sent where no URL is set.

    ``say``: the log, which hears why nothing arrived, and never where it should have.
    """
    url = environment.get(ALERTS, "").strip()
    if not url:
        return False
    if (problem := wire.check_url(url)) is not None:
        say(f"{ALERTS} {problem}: nobody was told")
        return False
    body = json.dumps({"text": text(lines)}).encode()
    answer = wire.post(url, body, {"Content-Type": "application/json; charset=utf-8"}, TIMEOUT_SECONDS)
    if isinstance(answer, wire.NoAnswer):
        say(f"{ALERTS}: no answer ({plain(answer.why)}): nobody was told, or perhaps")
    elif not 200 <= answer.status < 300:
        say(f"{ALERTS}: answered {answer.status}: nobody was told")
    else:
        return True
    return False


def text(lines: Sequence[str]) -> str:
    """Lay lines out so that none of them is markup, a mention or two lines, and say how many are left out."""
    shown = [_inert(line) for line in lines[:MOST_LINES]]
    return "\n".join(shown + ([f"… and {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []))


def check_setting(environment: Mapping[str, str]) -> None:
    """Log, when the code location is loaded, that alerts cannot go out; what is told at the time of a failure is told too late."""
    url = environment.get(ALERTS, "").strip()
    if url and (problem := wire.check_url(url)) is not None:
        logging.getLogger(__name__).error("%s %s: nobody will be told when runs fail", ALERTS, problem)


def _inert(line: str) -> str:
    return "".join(_MARKUP.get(letter, letter) for letter in plain(line, MOST_LOGGED))
