"""From what the marketers wrote of messages to what is rendered: brand, layouts, blocks and content, checked and compiled.

What belongs here: names, variants, templates with their columns, HTML, and the brand's rules on examples and on the emptiest profile.
What does not: the shape of a value (``wording``), the dialect and the rules themselves (``atc_pipeline.content``).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from atc_pipeline.content import guardrails, layouts
from atc_pipeline.content.templates import ASSIGNMENT, Escape, RenderError, Template, TemplateError, compile_template
from atc_pipeline.escaping import plain
from atc_pipeline.journeys import portfolio as resolved
from atc_pipeline.journeys import wording as written
from atc_pipeline.journeys.dialect import nearest, shortened
from atc_pipeline.journeys.problems import Place
from atc_pipeline.journeys.shapes import Model
from atc_pipeline.journeys.wording import NOT_BUILT

MEDIA: tuple[resolved.Medium, ...] = ("email",)
"""Media of which content is rendered."""

_EMPTIEST: Mapping[pl.DataType, object] = {
    pl.Int64(): 0,
    pl.Float64(): 0.0,
    pl.String(): "x",
    pl.Boolean(): False,
    pl.List(pl.String()): (),
}
_EXAMPLES: Mapping[pl.DataType, tuple[tuple[type, ...], str]] = {
    pl.Int64(): ((int,), "a whole number"),
    pl.Float64(): ((int, float), "a number"),
    pl.String(): ((str,), "text"),
    pl.Boolean(): ((bool,), "true or false"),
    pl.Date(): ((date,), "a day such as 2026-12-24"),
    pl.List(pl.String()): ((list, tuple), "a list such as [a, b]"),
}
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Sections:
    """The sections of the file that say messages, and the files that are named in them."""

    brand: written.Brand | None
    layouts: Mapping[str, written.Written]
    blocks: Mapping[str, written.Block]
    content: Mapping[str, written.Content]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Ground:
    """What the library stands on: the profile's columns, of which the ``nullable`` may be empty, and how a problem is told."""

    profile: Mapping[str, pl.DataType]
    nullable: Collection[str]
    first_day: date
    refuse: Callable[[Place, str], None]
    known: Callable[[Place, str, str, Collection[str]], None]
    condition: Callable[[Place, str | None], resolved.Condition | None]


@dataclass(frozen=True)
class Library:
    """What messages are put together from."""

    brand: resolved.Brand | None
    layouts: tuple[resolved.Layout, ...]
    blocks: tuple[resolved.Block, ...]
    content: tuple[resolved.Content, ...]


@dataclass(frozen=True)
class _Part:
    """A variant whose text is compiled, its HTML not yet: where it stands, and the ``html`` that was written or made of its text."""

    place: Place
    title: str
    id: str
    when: resolved.Condition | None
    share: float | None
    text: Template
    html: str
    is_html_written: bool
    file: str | None


def resolve_library(sections: Sections, ground: Ground) -> Library:
    """Resolve everything that messages say; problems are told to ``ground``."""
    return _Resolution(sections, ground).resolve()


class _Resolution:
    def __init__(self, sections: Sections, ground: Ground) -> None:
        self.sections = sections
        self.ground = ground
        self.schema = {**ground.profile, **ASSIGNMENT}
        self.is_sound = True

    def resolve(self) -> Library:
        sections = self.sections
        content = {id_: self._content(id_, each) for id_, each in sections.content.items()}
        parts = {id_: self._parts(id_, block) for id_, block in sections.blocks.items()}
        brand = self._brand()
        stands_in = self._stands_in(content, brand)
        compiled, html = self._compiled(parts, stands_in)
        blocks = tuple(
            resolved.Block(id_, tuple(self._variant(each, html, in_email=id_ in stands_in) for each in variants))
            for id_, variants in parts.items()
        )
        library = Library(brand, tuple(compiled), blocks, tuple(content.values()))
        if self.is_sound:
            for each in library.content:
                self._test(each, library)
        return library

    def _refuse(self, place: Place, message: str) -> None:
        self.is_sound = False
        self.ground.refuse(place, message)

    def _known(self, place: Place, noun: str, name: str, valid: Collection[str]) -> bool:
        if name not in valid:
            self.is_sound = False
            self.ground.known(place, noun, name, valid)
        return name in valid

    def _not_built(self, place: Place, model: Model) -> None:
        for key in written.LATER[type(model)]:
            if getattr(model, key) is not None:
                self._refuse((*place, key), f"is {NOT_BUILT}: leave it out")

    def _brand(self) -> resolved.Brand | None:
        brand = self.sections.brand
        if brand is None:
            return None
        self._not_built(("brand", "limits"), brand.limits)
        for medium, block in brand.footer.items():
            if medium not in MEDIA:
                self._refuse(("brand", "footer", medium), f"is {NOT_BUILT}: leave it out")
            self._known(("brand", "footer", medium), "block", block, self.sections.blocks)
        for position, host in enumerate(brand.links):
            if not host.removeprefix("*.").replace("-", "a").replace(".", "a").isalnum() or not host.isascii():
                self._refuse(
                    ("brand", "links", position), f"expected a host such as grocer.example or *.grocer.example, found '{shortened(host)}'"
                )
        for position, word in enumerate(brand.banned):
            if not word.strip("* ") or "*" in word.removesuffix("*"):
                self._refuse(("brand", "banned", position), f"expected words, or a stem such as guarante*, found '{shortened(word)}'")
        return resolved.Brand(
            languages=brand.languages,
            banned=brand.banned,
            links=brand.links,
            reading=brand.reading,
            exclamations=brand.exclamations,
            capitals=brand.capitals,
            footer={medium: block for medium, block in brand.footer.items() if medium in MEDIA},
            limits=resolved.Limits(brand.limits.subject, brand.limits.email_kb),
            examples={name: self._example(name, value) for name, value in brand.examples.items()},
        )

    def _example(self, name: str, value: object) -> object:
        place = ("brand", "examples", name)
        if self._known(place, "column", name, self.schema):
            types, expected = _EXAMPLES[self.schema[name]]
            is_fitting = isinstance(value, types) and (bool in types or not isinstance(value, bool))
            if isinstance(value, list):
                is_fitting &= all(isinstance(item, str) for item in value)
            if not is_fitting:
                self._refuse(place, f"expected {expected}, found {shortened(str(value))}")
        return tuple(value) if isinstance(value, list) else value

    def _text(self, place: Place, text: written.Written) -> tuple[str, str | None]:
        """Return a text, and the file it stands in."""
        if isinstance(text, str):
            return text, None
        if text.file not in self.sections.files:
            self._refuse((*place, "file"), f"'{shortened(text.file)}' was not read: load the portfolio from its file")
        return self.sections.files.get(text.file, ""), text.file

    def _template(self, place: Place, text: str, *, file: str | None = None, title: str = "", escape: Escape = "text") -> Template:
        try:
            return compile_template(text, self.schema, nullable=self.ground.nullable, escape=escape)
        except TemplateError as error:
            self._tell(place, error, file, title, is_many_lines="\n" in text)
            return Template("", {}, frozenset(), "", escape)

    def _tell(self, place: Place, error: TemplateError, file: str | None, title: str, *, is_many_lines: bool) -> None:
        hint = nearest(error.name, error.valid) if error.name is not None else ""
        line = f"{file}:{error.line}: " if file else f"line {error.line} of the text: " if is_many_lines else ""
        self._refuse(place, f"{title}{line}{plain(str(error), None)}{hint}")

    def _content(self, id_: str, content: written.Content) -> resolved.Content:
        place: Place = ("content", id_)
        self._not_built(place, content)
        email = content.email
        if email is None:
            if all(getattr(content, key) is None for key in written.LATER[written.Content]):
                self._refuse(place, "says nothing: expected email")
            return resolved.Content(id_, content.about, None)
        place = (*place, "email")
        for position, block in enumerate(email.body):
            self._known((*place, "body", position), "block", block, self.sections.blocks)
        if email.layout is not None:
            self._known((*place, "layout"), "layout", email.layout, self.sections.layouts)
        subject = self._template((*place, "subject"), email.subject, escape="header")
        preheader = None if email.preheader is None else self._template((*place, "preheader"), email.preheader, escape="header")
        return resolved.Content(id_, content.about, resolved.EmailContent(subject, preheader, email.layout, email.body))

    def _parts(self, id_: str, block: written.Block) -> tuple[_Part, ...]:
        place: Place = ("blocks", id_)
        self._not_built(place, block)
        if block.variants is None:
            return (self._part(place, "", None, None, block),)
        if block.text is not None or block.html is not None:
            self._refuse(place, "expected text and html, or variants that have them: not both")
        self._check_variants((*place, "variants"), block.variants)
        return tuple(
            self._part((*place, "variants", position), variant.id, variant.when, variant.share, variant)
            for position, variant in enumerate(block.variants)
        )

    def _check_variants(self, place: Place, variants: Sequence[written.Variant]) -> None:
        seen: set[str] = set()
        for position, variant in enumerate(variants):
            if variant.id in seen:
                self._refuse((*place, position, "id"), f"variant '{variant.id}' stands above already: ids are unique within a block")
            seen.add(variant.id)
            if variant.when is not None and variant.share is not None:
                self._refuse((*place, position), f"variant '{variant.id}': when and share do not stand beside each other")
        if any(variant.share is not None for variant in variants):
            without = [variant.id for variant in variants if variant.share is None]
            total = sum(variant.share or 0 for variant in variants)
            if without:
                self._refuse(place, f"variant '{without[0]}' has no share: either all have one, or none")
            elif abs(total - 1) > 1e-9:  # shares are decimals, and their sum is rounded
                self._refuse(place, f"shares add up to {total:g}: expected 1")
            return
        if variants[-1].when is not None:
            self._refuse(
                (*place, len(variants) - 1, "when"), f"variant '{variants[-1].id}' is the last, for everybody else: expected no when"
            )
        for position, variant in enumerate(variants[:-1]):
            if variant.when is None:
                self._refuse((*place, position), f"variant '{variant.id}' has no when, so nobody comes to those after it: expected it last")

    def _part(self, place: Place, id_: str, when: str | None, share: float | None, block: written.Block | written.Variant) -> _Part:
        title = f"variant '{id_}': " if id_ else ""
        if isinstance(block, written.Variant):
            self._not_built(place, block)
        if block.text is None and block.write is None:
            self._refuse(place, f"{title}text is missing: every medium needs it")
        source, file = ("", None) if block.text is None else self._text(place, block.text)
        text = self._template((*place, "text"), source.strip(), file=file, title=title)
        html = ""
        if block.html is not None:
            html, file = self._text(place, block.html)
            self._template((*place, "html"), html, file=file, title=title, escape="html")
        elif text.text:
            html = layouts.as_html(text.text)
        condition = self.ground.condition((*place, "when"), when)
        return _Part(place, title, id_, condition, share, text, html, block.html is not None, file)

    def _stands_in(self, content: Mapping[str, resolved.Content], brand: resolved.Brand | None) -> Mapping[str, list[str | None]]:
        """Return in which layouts each block stands."""
        named: dict[str, list[str | None]] = {}
        footer = [brand.footer["email"]] if brand and "email" in brand.footer else []
        for each in content.values():
            for block in (*each.email.body, *footer) if each.email else ():
                if each.email and each.email.layout not in named.setdefault(block, []):
                    named[block].append(each.email.layout)
        return named

    def _compiled(
        self, parts: Mapping[str, Sequence[_Part]], stands_in: Mapping[str, list[str | None]]
    ) -> tuple[list[resolved.Layout], Mapping[Place, Mapping[str | None, str]]]:
        """Compile each layout with the blocks that stand in it; of each variant, by its place, what it is in which layout."""
        done: list[resolved.Layout] = []
        html: dict[Place, dict[str | None, str]] = {}
        for id_ in (*self.sections.layouts, None):
            place: Place = () if id_ is None else ("layouts", id_)
            text, file = (layouts.PLAIN, None) if id_ is None else self._text(place, self.sections.layouts[id_])
            here = {
                f"{block}:{variant.id}": variant
                for block, variants in parts.items()
                for variant in variants
                if id_ in stands_in.get(block, [None] if variant.is_html_written else []) and variant.html
            }
            if not self.is_sound and not text:
                continue
            try:
                whole, blocks = layouts.compiled(text, {key: variant.html for key, variant in here.items()})
            except TemplateError as error:
                guilty = here.get(error.block) if isinstance(error, layouts.LayoutError) and error.block else None
                if guilty is None:
                    self._tell(place, error, file, "", is_many_lines="\n" in text)
                else:
                    self._tell((*guilty.place, "html"), error, guilty.file, guilty.title, is_many_lines="\n" in guilty.html)
                continue
            for key, variant in here.items():
                html.setdefault(variant.place, {})[id_] = blocks[key]
            if id_ is not None:
                done.append(resolved.Layout(id_, text, whole))
        return done, html

    def _variant(self, part: _Part, html: Mapping[Place, Mapping[str | None, str]], *, in_email: bool) -> resolved.Variant:
        in_layouts = html.get(part.place, {})
        if len(set(in_layouts.values())) > 1:
            names = " and ".join(f"'{id_}'" if id_ else "no layout" for id_ in in_layouts)
            self._refuse(
                part.place, f"{part.title}stands in {names}, whose styles make different HTML of it: write a block for each of them"
            )
        template = None
        if in_layouts and (in_email or part.is_html_written):
            source = next(iter(in_layouts.values()))
            try:
                template = compile_template(
                    part.html if part.is_html_written else "",
                    self.schema,
                    nullable=self.ground.nullable,
                    escape="html",
                    source=source,
                )
            except TemplateError as error:
                if self.is_sound:
                    self._refuse((*part.place, "html"), f"{part.title}as HTML: {plain(str(error), None)}")
        return resolved.Variant(part.id, part.when, part.share, part.text, template)

    # ---- The brand's rules, on examples and on whoever we know least about

    def _test(self, content: resolved.Content, library: Library) -> None:
        email = content.email
        if email is None:
            return
        blocks = {block.id: block for block in library.blocks}
        footer = [library.brand.footer["email"]] if library.brand and "email" in library.brand.footer else []
        body = [blocks[name] for name in (*email.body, *footer)]
        emptiest = {name: None if name in self.ground.nullable else self._emptiest(dtype) for name, dtype in self.schema.items()}
        people = {"the emptiest profile": emptiest}
        if library.brand and library.brand.examples:
            people = {"brand.examples": {**emptiest, **library.brand.examples}, **people}
        page = next((layout.html for layout in library.layouts if layout.id == email.layout), layouts.plain_html())
        rules = library.brand.rules if library.brand else guardrails.Rules()
        known: set[tuple[str, ...]] = set()
        for chosen in _each_variant(body):
            for person, values in people.items():
                for problem in _problems(email, chosen, page, rules, values):
                    key = (problem.rule, problem.block)
                    if key not in known:
                        known.add(key)
                        self._refuse(("content", content.id, "email"), f"{problem.words} (on {person})")

    def _emptiest(self, dtype: pl.DataType) -> object:
        return self.ground.first_day if dtype == pl.Date() else _EMPTIEST[dtype]


@dataclass(frozen=True)
class _Problem:
    rule: str
    block: str
    words: str


def _each_variant(body: Sequence[resolved.Block]) -> Iterator[Sequence[tuple[resolved.Block, resolved.Variant]]]:
    """Return bodies in which each variant of each block comes once, beside the last of the others."""
    last = [(block, block.variants[-1]) for block in body]
    yield last
    for position, block in enumerate(body):
        for variant in block.variants[:-1]:
            yield [*last[:position], (block, variant), *last[position + 1 :]]


def _problems(
    email: resolved.EmailContent,
    chosen: Sequence[tuple[resolved.Block, resolved.Variant]],
    page: str,
    rules: guardrails.Rules,
    values: Mapping[str, object],
) -> Iterator[_Problem]:
    """Render one e-mail and say which rules it breaks, and where: in a line, in a block, or as a whole."""
    texts: dict[str, str] = {}
    headers = {"subject": email.subject, **({"preheader": email.preheader} if email.preheader else {})}
    named = {f"block '{block.id}'" + (f", variant '{variant.id}'" if variant.id else ""): variant for block, variant in chosen}
    parts: dict[str, tuple[str, str]] = {}
    try:
        for where, header in headers.items():
            texts[where] = header.render(values)
        for where, variant in named.items():
            assert variant.html is not None, "a block of an e-mail has HTML"
            parts[where] = (variant.text.render(values), variant.html.render(values))
    except RenderError as error:
        yield _Problem("no_content", where, f"{where}: cannot be rendered: {plain(str(error))}")
        return
    broken: set[str] = set()
    for where, text in texts.items():
        for rule in guardrails.ordered(guardrails.header_faults(text, rules, is_subject=where == "subject")):
            yield _Problem(rule, where, _breach(where, rule, text))
    for where, (text, html) in parts.items():
        faults = guardrails.faults(text, rules) | guardrails.faults(html, rules, is_html=True)
        broken |= faults
        for rule in guardrails.ordered(faults):
            yield _Problem(rule, where, _breach(where, rule, text))
    text = layouts.text_of([text for text, _ in parts.values()])
    html = layouts.html_of(page, [html for _, html in parts.values()], texts.get("preheader"))
    whole = guardrails.email_faults(subject=texts["subject"], preheader=None, text=text, html=html, rules=rules)
    of_subject = guardrails.header_faults(texts["subject"], rules, is_subject=True)
    variants = ", ".join(where for where in named if "variant" in where)
    for rule in whole:
        if rule not in broken | of_subject or rule in guardrails.excesses(guardrails.measured(text), rules):
            yield _Problem(rule, "", _breach(variants or "the message", rule, text))


def _breach(where: str, rule: str, text: str) -> str:
    return f"{where}: breaks the rule {rule} ({guardrails.RULES[rule]}): '{plain(' '.join(text.split()), _LONGEST_SHOWN)}'"
