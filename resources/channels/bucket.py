"""The channel that puts objects into a bucket, for whoever fetches them.

What belongs here: what becomes of messages for a bucket, and that none is in it twice. What does not: a bucket (``resources.storage``),
other channels.
"""

import re
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from resources.channels.channel import OnUnknown, Setting, WrongSettingError, batch_key, json_lines, outcomes
from resources.channels.slots import Slots
from resources.storage.objects import Address, BucketError, ChangedError, MaybeWrittenError, Objects

_OURS = re.compile(r"[0-9a-f]{32}\.ndjson")


@dataclass
class BucketChannel:
    """Objects ``date=<D>/<channel>/<batch key>.ndjson``, one for each batch, one message a line, sorted by key. None is ever replaced.

    An object is created or it is there: a batch that was written, and of which nobody heard, is not written again. Nor is a message
    that is in another object of its day, from a run in which batches were cut otherwise: what is there is looked at first, at the cost of
    a listing for each batch, and of reading once what this run did not write itself.

    ``failed``: the store refused, or the object's name is another's. ``unknown``: no answer came; the next look will tell.
    """

    objects: Objects
    channel_id: str
    batch_size: int = 10_000
    is_dry: bool = False
    schedules: bool = True
    on_unknown: OnUnknown = "resend"
    slots: Slots = field(default_factory=Slots)
    _keys: dict[str, pl.Series] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The keys of the messages in each object, by its name."""

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``delivered`` where it is in an object."""
        return self.slots.complete(messages, self._send)

    def _send(self, messages: pl.DataFrame) -> pl.DataFrame:
        answers = [answer for (day,), group in messages.group_by("date", maintain_order=True) for answer in self._put(day, group)]
        return messages.select("idempotency_key").join(pl.concat(answers), on="idempotency_key", how="left", maintain_order="left")

    def _put(self, day: date, messages: pl.DataFrame) -> list[pl.DataFrame]:
        folder = f"date={day}/{self.channel_id}"
        try:
            present = self._present(folder)
        except BucketError as problem:
            return [outcomes(messages, "failed", str(problem))]
        is_present = pl.col("idempotency_key").is_in(present.implode())
        missing = messages.filter(~is_present).sort("idempotency_key")
        there = outcomes(messages.filter(is_present), "delivered")
        if missing.is_empty():
            return [there]
        name = f"{folder}/{batch_key(missing)}.ndjson"
        return [there, self._create(name, missing)]

    def _create(self, name: str, messages: pl.DataFrame) -> pl.DataFrame:
        """Put a new object; where one has its name, it is this batch if it has these messages, as they were when it was written."""
        try:
            self.objects.create(name, "".join(f"{line}\n" for line in json_lines(messages)).encode())
        except MaybeWrittenError as problem:
            return outcomes(messages, "unknown", str(problem))
        except BucketError as problem:
            return outcomes(messages, "failed", str(problem))
        except ChangedError:
            try:
                keys = self._read(name)
            except BucketError as problem:
                return outcomes(messages, "unknown", str(problem))
            if sorted(keys) != messages["idempotency_key"].to_list():
                return outcomes(messages, "failed", f"{self.objects.name(name)} is there, and is no batch of these messages: move it away")
        self._keys[name] = messages["idempotency_key"]
        return outcomes(messages, "delivered")

    def _present(self, folder: str) -> pl.Series:
        """Return the keys of all messages in a folder's objects."""
        names = [stored.key for stored in self.objects.all(folder) if _OURS.fullmatch(stored.key.removeprefix(f"{folder}/"))]
        for name in names:
            if name not in self._keys:
                self._keys[name] = self._read(name)
        return pl.concat([pl.Series("idempotency_key", [], pl.String), *(self._keys[name] for name in names)])

    def _read(self, name: str) -> pl.Series:
        """Return the keys of the messages in an object; none where it is none of ours, or has been fetched and removed since."""
        content, _ = self.objects.read(name) or (b"", "")
        lines = pl.Series("idempotency_key", content.decode(errors="replace").split("\n"), pl.String)
        return lines.str.json_path_match("$.idempotency_key").drop_nulls()


def connect(channel_id: str, address: str, setting: Setting) -> BucketChannel:
    """Connect a channel to a bucket. Raises WrongSettingError where the address is none, or what speaks to buckets is not installed."""
    try:
        place = Address.of(address)
    except ValueError as problem:
        raise WrongSettingError(f"the address of {channel_id!r} {problem}") from None
    try:
        from resources.storage.bucket import Bucket  # noqa: PLC0415  # only who has a bucket has installed what speaks to it
    except ModuleNotFoundError as problem:
        raise WrongSettingError(
            f"{channel_id!r} goes out to a bucket, and {problem.name} is not installed: `pip install {problem.name}`, or all of the extra "
            "`team` (requirements.lock has it)"
        ) from None
    return BucketChannel(Bucket(place), channel_id, slots=Slots.from_environment(setting.environment))
