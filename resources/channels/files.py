"""The channel that writes files, for whoever fetches them.

What belongs here: what becomes of messages for the outbox. What does not: its files (``resources.storage.outbox``), other channels.
"""

from dataclasses import dataclass, field

import polars as pl

from resources.channels.channel import OnUnknown, Setting, json_lines, outcomes
from resources.channels.slots import Slots
from resources.storage.files import UnsureError
from resources.storage.outbox import Outbox


@dataclass(frozen=True)
class FileChannel:
    """Files for whoever fetches them, one of each day and journey.

    A message sent again replaces its line. What cannot be written is ``failed``: no reader saw any of it; what was, and might not
    survive a power cut, is ``unknown``.
    """

    outbox: Outbox
    batch_size: int = 10_000
    is_dry: bool = False
    schedules: bool = True
    on_unknown: OnUnknown = "resend"
    slots: Slots = field(default_factory=Slots)

    def send(self, messages: pl.DataFrame) -> pl.DataFrame:
        """One row per message: ``delivered`` where its line is in the file."""
        return self.slots.complete(messages, self._send)

    def _send(self, messages: pl.DataFrame) -> pl.DataFrame:
        answers = []
        for (day, journey_id), group in messages.group_by("date", "journey_id", maintain_order=True):
            try:
                self.outbox.merge(day, journey_id, json_lines(group))
            except UnsureError as problem:
                answers.append(outcomes(group, "unknown", f"outbox: written, and not known to last: {problem.strerror}"))
            except OSError as problem:
                answers.append(outcomes(group, "failed", f"outbox: {problem.strerror or problem}"))
            except UnicodeDecodeError:
                answers.append(outcomes(group, "failed", "outbox: the file that is there is damaged; move it away"))
            else:
                answers.append(outcomes(group, "delivered"))
        return messages.select("idempotency_key").join(pl.concat(answers), on="idempotency_key", how="left", maintain_order="left")


def connect(channel_id: str, address: str, setting: Setting) -> FileChannel:  # noqa: ARG001 - the outbox is one, wherever it is
    """Connect a channel to the outbox."""
    return FileChannel(Outbox.of(setting.home), slots=Slots.from_environment(setting.environment))
