"""Where messages go: one ``Channel`` per way out, and the resource that says which channel of ``journeys.yaml`` uses which.

What belongs here: what the environment says of channels, and connecting them. What does not: any way out (one module each), which
messages to send, in which order, and remembering it (``delivery``).
"""

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

import dagster as dg
from pydantic import Field

from atc_pipeline.escaping import plain
from resources.channels import wire
from resources.channels.channel import Channel, Clock, DryRun
from resources.channels.files import FileChannel
from resources.channels.signing import SIGNED_WITH, read_secrets
from resources.channels.webhook import WebhookChannel
from resources.storage.outbox import Outbox

LIVE, WEBHOOKS = "ATC_LIVE", "ATC_WEBHOOKS"
"""Environment variables. The second, like ``SIGNED_WITH``, holds secrets (URLs have tokens in them): both are read when channels are
connected, and are part of no configuration, which Dagster keeps and shows."""


class WrongSettingError(ValueError):
    """The environment says how to reach channels in a way that cannot be understood; the message never repeats a secret."""


class Channels(dg.ConfigurableResource["Channels"]):
    """How each channel of ``journeys.yaml`` is reached: its webhook, else a file in the outbox; nothing at all unless ``live``."""

    home: str = Field(description="The folder that holds the outbox (ATC_HOME).")
    live: str = Field(default="", description="ATC_LIVE: exactly `true` sends; `false` or nothing is a dry run; all else is refused.")
    webhooks: list[str] = Field(default=[], description="Channels that ATC_WEBHOOKS has a URL for; other channels write files.")
    batch_size: int = Field(default=100, gt=0, description="Messages per webhook request.")
    timeout_seconds: float = Field(default=10.0, gt=0, description="How long a webhook may take to connect, and to answer.")
    retries: int = Field(default=4, ge=0, description="How often a webhook request is tried again.")

    @classmethod
    def from_environment(cls, home: str, environment: Mapping[str, str]) -> "Channels":
        """Configuration as ``ATC_LIVE`` and ``ATC_WEBHOOKS`` (``email=https://...,app=https://...``) say, without any URL.

        What cannot be understood is logged, and refused by ``connect``: all that sends nothing goes on.
        """
        webhooks: list[str] = []
        try:
            webhooks = sorted(_webhooks(environment.get(WEBHOOKS, "")))
            _is_live(environment.get(LIVE, ""))
        except WrongSettingError as problem:
            logging.getLogger(__name__).error("nothing will be sent: %s", problem)  # noqa: TRY400 - an operator's mistake, and no traceback
        return cls(home=home, live=plain(environment.get(LIVE, ""), 40), webhooks=webhooks)

    @property
    def is_live(self) -> bool:
        """Whether messages are sent. Raises WrongSettingError where that is not clear."""
        return _is_live(self.live)

    @property
    def outbox(self) -> Outbox:
        """Return where messages go that no webhook takes."""
        return Outbox.of(self.home)

    def connect(self, channels: Iterable[str], now: Clock) -> dict[str, Channel]:
        """A way out for each of these channels (those of ``journeys.yaml``). ``now`` dates the signatures.

        A webhook for a channel that does not exist is an error, and so is a live one without a secret: either would let messages
        go where nobody expects them. Raises WrongSettingError.
        """
        names = sorted(channels)
        is_live = self.is_live
        webhooks = _webhooks(os.environ.get(WEBHOOKS, ""), names)
        for name in sorted(webhooks.keys() - set(names)):
            nearest = "".join(f"; nearest: {match!r}" for match in get_close_matches(name, names, n=1, cutoff=0))
            raise WrongSettingError(f"{WEBHOOKS} names {name!r}, which is no channel of journeys.yaml{nearest}")
        if sorted(webhooks) != sorted(self.webhooks):
            raise WrongSettingError(
                f"{WEBHOOKS} has URLs for {sorted(webhooks)}, and had them for {sorted(self.webhooks)} when the code location was loaded: "
                "reload it, with the variable in the environment of all of Dagster's processes"
            )
        if not is_live:
            return dict.fromkeys(names, DryRun())
        secret = os.environ.get(SIGNED_WITH, "")
        if webhooks and not secret:
            raise WrongSettingError(
                f"{SIGNED_WITH} is not set, and webhooks ({', '.join(sorted(webhooks))}) are not called without a signature"
            )
        try:
            read_secrets(secret)
        except ValueError as problem:
            raise WrongSettingError(f"{SIGNED_WITH} {problem}") from None
        file = FileChannel(self.outbox)
        return {name: self._webhook(webhooks[name], secret, now) if name in webhooks else file for name in names}

    def _webhook(self, url: str, secret: str, now: Clock) -> WebhookChannel:
        return WebhookChannel(url, secret, now, self.batch_size, self.timeout_seconds, self.retries)


def _is_live(live: str) -> bool:
    if live not in {"", "false", "true"}:
        raise WrongSettingError(f"{LIVE} is {plain(live, 40)!r}: expected exactly true (messages are sent) or false (a dry run)")
    return live == "true"


def _webhooks(text: str, channels: Collection[str] = ()) -> dict[str, str]:
    """Read URLs by channel. Errors show no part of the text but names of these channels: the rest may be part of a token."""
    webhooks: dict[str, str] = {}
    entries = [entry.strip() for entry in text.split(",")]
    for number, entry in enumerate(entries, start=1):
        if not entry:
            continue
        channel, _, url = (part.strip() for part in entry.partition("="))
        which = f"for {channel!r}" if channel in channels else f"in entry {number} of {len(entries)}"
        expected = "expected <channel>=https://host/..., separated by commas (a comma of a URL is written %2C)"
        if not re.fullmatch("[a-z0-9_]+", channel):
            raise WrongSettingError(f"{WEBHOOKS} has no channel {which}; {expected}")
        if (problem := wire.check_url(url)) is not None:
            raise WrongSettingError(f"{WEBHOOKS} has no URL {which}: what is there {problem}; {expected}")
        if channel in webhooks:
            raise WrongSettingError(f"{WEBHOOKS} names a channel twice, {which}")
        webhooks[channel] = url
    return webhooks
