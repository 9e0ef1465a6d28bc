"""What the marketers wrote of messages: brand, layouts, blocks and content of ``journeys.yaml`` as frozen models.

What belongs here: the shape and range of every single value, and what each key means. What does not: rules between keys
(``content_library``), what a template may hold (``content.templates``), or any other section (``document``).
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Strict, Tag

from atc_pipeline.journeys.problems import Place
from atc_pipeline.journeys.shapes import ColumnName, Condition, LongText, Model, Name, Number, Text, Whole, listed

NOT_BUILT = "not built yet"
_LATER: Any = Field(default=None, description="Not built yet.")


class InFile(Model):
    """A text that stands in a file of its own."""

    file: Text = Field(description="Where it stands, from the folder of journeys.yaml.", examples=["content/newsletter.mjml"])


def _written_tag(value: object) -> str:
    return "<file>" if isinstance(value, dict | InFile) else "<text>"


Written = Annotated[Annotated[LongText, Tag("<text>")] | Annotated[InFile, Tag("<file>")], Discriminator(_written_tag)]
BlockNames = Annotated[tuple[Text, ...], Field(min_length=1), listed]


class Limits(Model):
    """How long texts may be."""

    subject: Annotated[Whole, Field(ge=1)] | None = Field(default=None, description="Letters of a subject, at most.")
    email_kb: Annotated[Whole, Field(ge=1, le=102)] | None = Field(default=None, description="kB of an e-mail's HTML, at most; 102 always.")
    push_body: Any = _LATER
    sms_segments: Any = _LATER


class Brand(Model):
    """What no message may break, whoever or whatever wrote it."""

    languages: tuple[Text, ...] = Field(default=(), description="In which languages is written.", examples=[["en"]])
    banned: tuple[Text, ...] = Field(
        default=(), description="Words that no text holds, in any case; * ends a stem.", examples=[["risk free", "guarante*"]]
    )
    links: tuple[Text, ...] = Field(
        default=(),
        description="Hosts that links may lead to; any unless said. Always https.",
        examples=[["grocer.example", "*.grocer.example"]],
    )
    reading: Annotated[Number, Field(gt=0)] | None = Field(default=None, description="How hard a text may be to read (LIX).", examples=[45])
    exclamations: Annotated[Whole, Field(ge=0)] | None = Field(default=None, description="Exclamation marks of a text, at most.")
    capitals: Annotated[Number, Field(ge=0, le=1)] | None = Field(default=None, description="Share of letters that are capitals, at most.")
    footer: dict[Literal["email", "sms", "push", "chat"], Text] = Field(
        default={}, description="The block that ends every message of a medium.", examples=[{"email": "legal"}]
    )
    limits: Limits = Field(default_factory=Limits, description="How long texts may be.")
    examples: dict[ColumnName, Any] = Field(
        default={}, description="Who is shown in previews: values of columns, of nobody real.", examples=[{"first_name": "Ann"}]
    )


class Variant(Model):
    """One way to say a block."""

    id: Name = Field(description="Its name within the block.")
    when: Condition | None = Field(
        default=None, description="For customers for whom this holds; the first that fits is taken, the last has none."
    )
    share: Annotated[float, Strict(), Field(gt=0, le=1)] | None = Field(
        default=None, description="For this share of the customers, the same ones always: an experiment. Shares add up to 1."
    )
    text: Written | None = Field(default=None, description="What it says, in every medium.")
    html: Written | None = Field(default=None, description="MJML or HTML, where an e-mail wants more than the text in a paragraph.")
    write: Any = _LATER


class Block(Model):
    """A part that messages are put together from: a text, or variants of it."""

    text: Written | None = Field(
        default=None, description="What it says, in every medium.", examples=["Hi {{ first_name | default('there') }},"]
    )
    html: Written | None = Field(default=None, description="MJML or HTML, where an e-mail wants more than the text in a paragraph.")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] | None = Field(
        default=None, description="Ways to say it: by condition (the first that fits), or by share."
    )
    write: Any = _LATER


class Email(Model):
    """What an e-mail says."""

    subject: Text = Field(description="The subject, one line.", examples=["{{ first_name | default('We') }}, it has been a while"])
    preheader: Text | None = Field(default=None, description="What mailboxes show after the subject.")
    layout: Text | None = Field(default=None, description="What stands around the blocks; a plain page unless said.")
    body: BlockNames = Field(description="Its blocks, in order; brand.footer follows.")


class Content(Model):
    """One message, for each medium it can take."""

    about: Text | None = Field(default=None, description="What it is for.")
    email: Email | None = Field(default=None, description="As an e-mail.")
    push: Any = _LATER
    sms: Any = _LATER
    task: Any = _LATER
    slot: Any = _LATER


LATER: Mapping[type[Model], tuple[str, ...]] = {
    Limits: ("push_body", "sms_segments"),
    Block: ("write",),
    Variant: ("write",),
    Content: ("push", "sms", "task", "slot"),
}
"""Keys that the grammar knows, and nothing does yet."""


def files_of(layouts: Mapping[str, Written], blocks: Mapping[str, Block]) -> Iterator[tuple[Place, str]]:
    """Return every file that is named, and where."""
    named: list[tuple[Place, Written | None]] = [(("layouts", id_), layout) for id_, layout in layouts.items()]
    for id_, block in blocks.items():
        named += [(("blocks", id_, key), getattr(block, key)) for key in ("text", "html")]
        for position, variant in enumerate(block.variants or ()):
            named += [(("blocks", id_, "variants", position, key), getattr(variant, key)) for key in ("text", "html")]
    yield from (((*place, "file"), written.file) for place, written in named if isinstance(written, InFile))
