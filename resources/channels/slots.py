"""What rendered texts lack until they are handed over as data: the links by which a message is declined, and what it is called.

What belongs here: putting them in, as each text has to be written. What does not: the link (``unsubscribe``), e-mail by SMTP (``mime``),
whose headers have them as well, and what stands in their place until then (``atc_pipeline.content.templates``).
"""

import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import polars as pl

from atc_pipeline.content.templates import SLOTS
from resources.channels import wire
from resources.channels.channel import outcomes
from resources.channels.email import PREFERENCES
from resources.channels.unsubscribe import BASE, Declined, Links, WrongLinkError

Send = Callable[[pl.DataFrame], pl.DataFrame]

WRITTEN: Mapping[str, Callable[[str], str]] = {
    "subject": str,
    "preheader": str,
    "text": str,
    "html": html.escape,
    "link": str,
    "fields": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
}
"""How a value is written into each column that is a text."""
_LINKED = [marker for name, marker in SLOTS.items() if name != "message_id"]


@dataclass(frozen=True)
class Slots:
    """What is put in. ``problem``: why no links can be made."""

    links: Links | None = None
    preferences: str = ""
    problem: str = field(default=f"{BASE} is not set", compare=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read what e-mail reads; a problem with it is one of the messages that need it, and of no others."""
        preferences = environment.get(PREFERENCES, "").strip()
        if preferences and (wire.check_url(preferences) or not preferences.startswith("https://")):
            return cls(problem=f"{PREFERENCES} is no address: expected https://host/path")
        try:
            return cls(Links.from_environment(environment), preferences)
        except WrongLinkError as problem:
            return cls(problem=str(problem))

    def complete(self, messages: pl.DataFrame, send: Send) -> pl.DataFrame:
        """Send messages with all that belongs into them; those that nobody could decline, though they say so, have failed."""
        texts = [name for name in WRITTEN if messages.schema.get(name) == pl.String]
        lacking = messages.select("idempotency_key", *texts).filter(_has(texts, list(SLOTS.values())))
        if lacking.is_empty():
            return send(messages)
        unfit = lacking.filter(_has(texts, _LINKED if self.links is None else []))
        ready = messages.join(unfit, on="idempotency_key", how="anti", maintain_order="left")
        answers = [outcomes(unfit, "failed", self.problem)]
        if not ready.is_empty():
            answers.append(send(ready.with_columns(pl.Series(name, self._filled(ready, name), pl.String) for name in texts)))
        every = pl.concat(answers, how="diagonal")
        return messages.select("idempotency_key").join(every, on="idempotency_key", how="left", maintain_order="left")

    def _filled(self, messages: pl.DataFrame, column: str) -> list[str | None]:
        write = WRITTEN[column]
        rows = messages.select(column, "customer_id", "channel", "idempotency_key").iter_rows()
        return [
            self._text(text, Declined(*declined), write) if text and any(marker in text for marker in SLOTS.values()) else text
            for text, *declined in rows
        ]

    def _text(self, text: str, declined: Declined, write: Callable[[str], str]) -> str:
        for name, value in self._values(declined).items():
            text = text.replace(SLOTS[name], write(value))
        return text

    def _values(self, declined: Declined) -> dict[str, str]:
        if self.links is None:
            return {"message_id": declined.idempotency_key}
        link = self.links.link(declined)
        separator = "&" if "?" in self.preferences else "?"
        page = f"{self.preferences}{separator}token={self.links.token(declined)}" if self.preferences else link
        return {"unsubscribe_url": link, "preferences_url": page, "message_id": declined.idempotency_key}


def _has(texts: list[str], markers: list[str]) -> pl.Expr:
    """Whether any of the texts has any of the markers."""
    return pl.any_horizontal(
        pl.lit(value=False),
        *(pl.col(name).str.contains(marker, literal=True).fill_null(value=False) for name in texts for marker in markers),
    )
