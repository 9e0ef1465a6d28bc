"""Where audiences and the one answer go: the resource that says which destination of ``journeys.yaml`` is reached how.

What belongs here: what the environment says of destinations, and connecting them. What does not: any destination (one module each), what
they are told, and remembering it (``delivery``).
"""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import dagster as dg
from pydantic import Field

from atc_pipeline.escaping import plain
from resources.channels import wire
from resources.channels.channel import Clock, WrongSettingError
from resources.channels.connected import LIVE
from resources.channels.signing import SIGNED_WITH, read_secrets
from resources.destinations.destination import Destination, Rehearsal
from resources.destinations.file import FileDestination
from resources.destinations.https import HttpsDestination
from resources.destinations.posting import Post
from resources.destinations.segment import HOST, SegmentDestination
from resources.storage.outbox import Outbox

DESTINATIONS, WRITE_KEY = "ATC_DESTINATIONS", "ATC_SEGMENT_WRITE_KEY"
"""Environment variables that hold secrets (URLs have tokens in them): they are read when destinations are connected, and are part of no
configuration, which Dagster keeps and shows."""
EXPECTED = "expected <destination>=https://host/..., =segment:// or =file, separated by commas (a comma of a URL is written %2C)"


class Destinations(dg.ConfigurableResource["Destinations"]):
    """How each destination of ``journeys.yaml`` is reached: as ``ATC_DESTINATIONS`` says, else by files in the outbox; none unless live."""

    home: str = Field(description="The folder that holds the outbox (ATC_HOME).")
    live: str = Field(default="", description="ATC_LIVE: exactly `true` tells destinations; `false` or nothing is a dry run.")
    named: list[str] = Field(default=[], description="What ATC_DESTINATIONS names, as name=scheme; other destinations write files.")
    timeout_seconds: float = Field(default=30.0, gt=0, description="How long a destination may take to connect, and to answer.")
    retries: int = Field(default=4, ge=0, description="How often a request is tried again.")

    @classmethod
    def from_environment(cls, home: str, environment: Mapping[str, str]) -> "Destinations":
        """Configuration as ``ATC_LIVE`` and ``ATC_DESTINATIONS`` say, without any URL.

        What cannot be understood is logged, and refused by ``connect``: all that tells nobody goes on.
        """
        named: list[str] = []
        try:
            named = _named(_addresses(environment.get(DESTINATIONS, "")))
        except WrongSettingError as problem:
            logging.getLogger(__name__).error("no destination will be told: %s", problem)  # noqa: TRY400 - an operator's mistake
        return cls(home=home, live=plain(environment.get(LIVE, ""), 40), named=named)

    @property
    def is_live(self) -> bool:
        """Whether destinations are told. Raises WrongSettingError where that is not clear."""
        if self.live not in {"", "false", "true"}:
            raise WrongSettingError(f"{LIVE} is {plain(self.live, 40)!r}: expected exactly true (sent) or false (a dry run)")
        return self.live == "true"

    def connect(self, names: Iterable[str], now: Clock) -> dict[str, Destination]:
        """Return each of these destinations. Raises WrongSettingError: where one is named that is none of them, or a secret is missing."""
        wanted, is_live = sorted(set(names)), self.is_live
        addresses = _addresses(os.environ.get(DESTINATIONS, ""), wanted)
        for name in sorted(addresses.keys() - set(wanted)):
            nearest = "".join(f"; nearest: {match!r}" for match in get_close_matches(name, wanted, n=1, cutoff=0))
            raise WrongSettingError(f"{DESTINATIONS} names {name!r}, which no audience and no publish of journeys.yaml names{nearest}")
        if _named(addresses) != sorted(self.named):
            raise WrongSettingError(
                f"{DESTINATIONS} names {_named(addresses)}, and named {sorted(self.named)} when the code location was loaded: reload it, "
                "with the variable in the environment of all of Dagster's processes"
            )
        if not is_live:
            return dict.fromkeys(wanted, Rehearsal())
        setting = Setting(self.home, now, os.environ, self.timeout_seconds, self.retries)
        return {name: SCHEMES[_scheme(addresses.get(name, "file"))](name, addresses.get(name, "file"), setting) for name in wanted}


@dataclass(frozen=True)
class Setting:
    """What is needed to connect a destination, besides its address."""

    home: str
    now: Clock
    environment: Mapping[str, str]
    timeout_seconds: float
    retries: int

    def post(self, url: str) -> Post:
        """Return what posts to a URL."""
        return Post(url, self.now, self.timeout_seconds, self.retries)


def connect_file(name: str, address: str, setting: Setting) -> Destination:  # noqa: ARG001
    """Connect files in the outbox."""
    return FileDestination(name, Outbox.of(setting.home), setting.now)


def connect_https(name: str, address: str, setting: Setting) -> Destination:
    """Connect a URL that is posted to. Raises WrongSettingError."""
    secret = setting.environment.get(SIGNED_WITH, "")
    if not secret:
        raise WrongSettingError(f"{SIGNED_WITH} is not set, and {name} is not told without a signature")
    try:
        keys = read_secrets(secret)
    except ValueError as problem:
        raise WrongSettingError(f"{SIGNED_WITH} {problem}") from None
    return HttpsDestination(setting.post(address), keys, setting.now)


def connect_segment(name: str, address: str, setting: Setting) -> Destination:
    """Connect Segment, at another host where the address has one (``segment://events.eu1.segmentapis.com``). Raises WrongSettingError."""
    write_key = setting.environment.get(WRITE_KEY, "")
    if not write_key:
        raise WrongSettingError(f"{WRITE_KEY} is not set: {name} is not told without it")
    return SegmentDestination(setting.post(f"https://{address.removeprefix('segment://') or HOST}/v1/batch"), write_key)


Connect = Callable[[str, str, Setting], Destination]
SCHEMES: Mapping[str, Connect] = {"file": connect_file, "https": connect_https, "http": connect_https, "segment": connect_segment}
"""How each kind of address is connected."""


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _named(addresses: Mapping[str, str]) -> list[str]:
    return sorted(f"{name}={_scheme(address)}" for name, address in addresses.items())


def _addresses(text: str, names: Collection[str] = ()) -> dict[str, str]:
    """Read addresses by destination. Errors show no part of the text but these names: the rest may be part of a token."""
    addresses: dict[str, str] = {}
    entries = [entry.strip() for entry in text.split(",")]
    for number, entry in enumerate(entries, start=1):
        if not entry:
            continue
        name, _, address = (part.strip() for part in entry.partition("="))
        which = f"for {name!r}" if name in names else f"in entry {number} of {len(entries)}"
        if not re.fullmatch("[a-z0-9_]+", name) or not address:
            raise WrongSettingError(f"{DESTINATIONS} has no destination {which}; {EXPECTED}")
        scheme = _scheme(address)
        if scheme not in SCHEMES:
            raise WrongSettingError(f"{DESTINATIONS} has no address {which} that is understood; {EXPECTED}")
        url = f"https://{address.removeprefix('segment://') or HOST}" if scheme == "segment" else address
        if scheme != "file" and (problem := wire.check_url(url)) is not None:
            raise WrongSettingError(f"{DESTINATIONS} has no address {which}: what is there {problem}; {EXPECTED}")
        if name in addresses:
            raise WrongSettingError(f"{DESTINATIONS} names a destination twice, {which}")
        addresses[name] = address
    return addresses
