"""The content library: everything that can be said and who gets it, and who is shown in previews."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from atc_pipeline.activation.content_library import content_library
from atc_pipeline.activation.examples import rendered_examples
from atc_pipeline.activation.rendering import render_messages
from atc_pipeline.activation.tables import CONTENT_LIBRARY, RENDERED_MESSAGES
from atc_pipeline.days.previews import put_out
from atc_pipeline.journeys.portfolio import Block, Content, EmailContent, Portfolio
from tests.engine.activation.contents import BLOCKS, TODAY, due, people, portfolio_in, said, template


@pytest.fixture
def portfolio(tmp_path: Path) -> Portfolio:
    """Two e-mails."""
    return portfolio_in(tmp_path)


def test_the_library_counts_who_gets_each_variant(portfolio: Portfolio) -> None:
    """All of a content get its blocks; of a block with variants each customer gets one."""
    profiles = people(*[{"first_name": "Ann", "spend": 100.0 * (place % 2)} for place in range(20)])
    rendered = render_messages(due(20), profiles, portfolio, today=TODAY).drop("problem")
    library = content_library(rendered, portfolio, today=TODAY)
    assert library.schema == CONTENT_LIBRARY.schema
    of_content = library.filter(content="miss_you").select("block", "variant", "customers").rows()
    counts = {(block, variant): customers for block, variant, customers in of_content}
    assert counts[None, ""] == counts["greeting", ""] == counts["legal", ""] == 20
    assert (counts["hero", "big"], counts["hero", "fan"], counts["hero", "anybody"]) == (10, 0, 10)
    assert counts["offer", "five"] + counts["offer", "ten"] == 20
    assert library.filter(content="plain")["customers"].unique().to_list() == [0]


def test_what_is_edited_is_another_version_and_nothing_else_is(portfolio: Portfolio) -> None:
    """The version is a hash of what a variant says."""
    nobody = pl.DataFrame(schema=RENDERED_MESSAGES.schema)
    before = content_library(nobody, portfolio, today=TODAY)
    edited = replace(portfolio, blocks=(Block("greeting", (said("Hello {{ first_name | default('there') }},"),)), *BLOCKS[1:]))
    after = content_library(nobody, edited, today=TODAY)
    changed = before.filter(before["version"] != after["version"])
    assert changed["block"].to_list() == ["greeting"]


def test_content_that_reads_nothing_is_in_the_library(portfolio: Portfolio) -> None:
    """Of an example nothing needs to be known then."""
    bare = Content("bare", None, EmailContent(template("Plain", "header"), None, None, ()))
    plain = replace(portfolio, content=(bare,), blocks=(Block("legal", (said("You said yes."),)),))
    library = content_library(pl.DataFrame(schema=RENDERED_MESSAGES.schema), plain, today=TODAY)
    assert library["block"].to_list() == [None, "legal"]


def test_each_variant_is_shown_once_at_least(portfolio: Portfolio) -> None:
    """Whoever it is for: to an example, with what brand.examples says."""
    shown = rendered_examples(portfolio, portfolio.content[0], today=TODAY)
    seen = {label for variant in shown["variant"] for label in variant.split("+")}
    assert seen == {f"{block.id}:{variant.id}" for block in BLOCKS for variant in block.variants if variant.id}
    assert shown["text"].str.starts_with("Hi Ann,").all()
    assert shown["problem"].null_count() == shown.height


def test_what_dagster_keeps_says_nothing_of_anybody(portfolio: Portfolio) -> None:
    """Letters and digits of texts are put out; what a condition reads stays, or another variant would be shown."""
    profiles = people({"first_name": "Änne 7", "category": "tea", "bought": ["Oolong", None], "spend": 3.5}).collect()
    shown = put_out(profiles, portfolio).row(0, named=True)
    assert shown == {**profiles.row(0, named=True), "first_name": "Xxxx 1", "bought": ["Xxxxxx", None]}
