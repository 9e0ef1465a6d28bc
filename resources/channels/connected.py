"""Where messages go: one ``Channel`` per way out, and the resource that says which channel of ``journeys.yaml`` uses which.

What belongs here: what the environment says of channels, and connecting them. What does not: any way out (one module each), which
messages to send, in which order, and remembering it (``delivery``).
"""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

import dagster as dg
from pydantic import Field

from atc_pipeline.escaping import plain
from resources.channels import bucket, email, files, webhook, wire
from resources.channels.channel import Channel, Clock, DryRun, Setting, WrongSettingError
from resources.storage.outbox import Outbox

LIVE, CHANNELS, WEBHOOKS, ONLY_TO = "ATC_LIVE", "ATC_CHANNELS", "ATC_WEBHOOKS", "ATC_ONLY_TO"
"""Environment variables. Those but the first hold secrets (addresses have tokens in them) or people: they are read when channels are
connected, and are part of no configuration, which Dagster keeps and shows."""

Connect = Callable[[str, str, Setting], Channel]
"""Connects a channel of journeys.yaml to an address. Raises WrongSettingError, whose message repeats nothing of the address."""

WAYS: Mapping[str, Connect] = MappingProxyType(
    {"http": webhook.connect, "https": webhook.connect, "s3": bucket.connect, **dict.fromkeys(email.SCHEMES, email.connect)}
)
"""How a channel is connected, by the scheme of its address. A channel that has no address writes files."""

_POSTED = ("http", "https")


class Channels(dg.ConfigurableResource["Channels"]):
    """How each channel of ``journeys.yaml`` is reached: its address, else a file in the outbox; nothing at all unless ``live``."""

    home: str = Field(description="The folder that holds the outbox (ATC_HOME).")
    live: str = Field(default="", description="ATC_LIVE: exactly `true` sends; `false` or nothing is a dry run; all else is refused.")
    ways: list[str] = Field(
        default=[], description="Channels that have an address in ATC_CHANNELS or ATC_WEBHOOKS, each with its scheme; others write files."
    )
    batch_size: int = Field(default=100, gt=0, description="Messages handed over at once.")
    timeout_seconds: float = Field(default=10.0, gt=0, description="How long a receiver may take to connect, and to answer.")
    retries: int = Field(default=4, ge=0, description="How often a request is tried again.")

    @classmethod
    def from_environment(cls, home: str, environment: Mapping[str, str]) -> "Channels":
        """Configuration as ``ATC_LIVE``, ``ATC_CHANNELS`` (``email=smtp://...,app=https://...``) and ``ATC_WEBHOOKS`` say, without any
        address.

        What cannot be understood is logged, and refused by ``connect``: all that sends nothing goes on.
        """
        ways: list[str] = []
        try:
            ways = _ways(_addresses(environment))
            _is_live(environment.get(LIVE, ""))
        except WrongSettingError as problem:
            logging.getLogger(__name__).error("nothing will be sent: %s", problem)  # noqa: TRY400 - an operator's mistake, and no traceback
        return cls(home=home, live=plain(environment.get(LIVE, ""), 40), ways=ways)

    @property
    def is_live(self) -> bool:
        """Whether messages are sent. Raises WrongSettingError where that is not clear."""
        return _is_live(self.live)

    @property
    def only_to(self) -> tuple[str, ...]:
        """Return the patterns of the addresses that alone may be written to (ATC_ONLY_TO); none where all may be."""
        return tuple(glob.strip() for glob in os.environ.get(ONLY_TO, "").split(",") if glob.strip())

    @property
    def outbox(self) -> Outbox:
        """Return where messages go that no other way out takes."""
        return Outbox.of(self.home)

    def connect(self, channels: Iterable[str], now: Clock) -> dict[str, Channel]:
        """A way out for each of these channels (those of ``journeys.yaml``). ``now`` dates the signatures.

        An address for a channel that does not exist is an error, and so is a live one without its secret: either would let messages
        go where nobody expects them. Raises WrongSettingError.
        """
        names = sorted(channels)
        is_live = self.is_live
        addresses = _addresses(os.environ, names)
        if _ways(addresses) != sorted(self.ways):
            raise WrongSettingError(
                f"{CHANNELS} and {WEBHOOKS} have addresses for {_ways(addresses)}, and had them for {sorted(self.ways)} when the code "
                "location was loaded: reload it, with the variables in the environment of all of Dagster's processes"
            )
        if not is_live:
            return dict.fromkeys(names, DryRun())
        setting = Setting(self.home, now, os.environ, self.batch_size, self.timeout_seconds, self.retries)
        connects = {name: WAYS[scheme_of(addresses[name])] if name in addresses else files.connect for name in names}
        return {name: connect(name, addresses.get(name, ""), setting) for name, connect in connects.items()}


def scheme_of(address: str) -> str:
    """Return the scheme of an address, in small letters; empty where it has none."""
    scheme, separator, _ = address.partition("://")
    return scheme.lower() if separator else ""


def _is_live(live: str) -> bool:
    if live not in {"", "false", "true"}:
        raise WrongSettingError(f"{LIVE} is {plain(live, 40)!r}: expected exactly true (messages are sent) or false (a dry run)")
    return live == "true"


def _ways(addresses: Mapping[str, str]) -> list[str]:
    """Say which channels have an address, and of which scheme: what of it may be shown."""
    return [f"{channel}={scheme_of(addresses[channel])}" for channel in sorted(addresses)]


def _addresses(environment: Mapping[str, str], channels: Collection[str] | None = None) -> dict[str, str]:
    """Read addresses by channel: of all of them, or of these ``channels``, and of no other.

    Errors show no part of the text but names of these channels: the rest may be part of a token.
    """
    addresses: dict[str, str] = {}
    for variable, schemes in ((CHANNELS, sorted(WAYS)), (WEBHOOKS, _POSTED)):
        for channel, address in _entries(variable, environment.get(variable, ""), schemes, channels or ()).items():
            if channels is not None and channel not in channels:
                nearest = "".join(f"; nearest: {match!r}" for match in get_close_matches(channel, channels, n=1, cutoff=0))
                raise WrongSettingError(f"{variable} names {channel!r}, which is no channel of journeys.yaml{nearest}")
            if channel in addresses:
                which = repr(channel) if channel in (channels or ()) else "a channel"
                raise WrongSettingError(f"{CHANNELS} and {WEBHOOKS} both have an address for {which}: leave it in one of them")
            addresses[channel] = address
    return addresses


def _entries(variable: str, text: str, schemes: Collection[str], channels: Collection[str]) -> dict[str, str]:
    noun, example = ("URL", "https://host/...") if variable == WEBHOOKS else ("address", f"<{'|'.join(schemes)}>://host/...")
    expected = f"expected <channel>={example}, separated by commas (a comma of an address is written %2C)"
    addresses: dict[str, str] = {}
    entries = [entry.strip() for entry in text.split(",")]
    for number, entry in enumerate(entries, start=1):
        if not entry:
            continue
        channel, _, address = (part.strip() for part in entry.partition("="))
        which = f"for {channel!r}" if channel in channels else f"in entry {number} of {len(entries)}"
        if not re.fullmatch("[a-z0-9_]+", channel):
            raise WrongSettingError(f"{variable} has no channel {which}; {expected}")
        if (problem := _problem(address, schemes)) is not None:
            raise WrongSettingError(f"{variable} has no {noun} {which}: what is there {problem}; {expected}")
        if channel in addresses:
            raise WrongSettingError(f"{variable} names a channel twice, {which}")
        addresses[channel] = address
    return addresses


def _problem(address: str, schemes: Collection[str]) -> str | None:
    """Say what is wrong with an address, without repeating any of it; the rest is for the way out to say, when it is connected."""
    scheme = scheme_of(address)
    if scheme in _POSTED or schemes == _POSTED:
        return wire.check_url(address)
    return None if scheme in schemes else f"does not begin with {', '.join(f'{known}://' for known in sorted(schemes))}"
