"""How messages are shown: pictures of them on somebody who does not exist, and of the day's shortest and longest.

What belongs here: how many pictures Dagster keeps, and what is said of those left out. What does not: which messages these are
(``days.previews``), how one is drawn (``activation.previews``).
"""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import islice, zip_longest

import dagster as dg
import polars as pl

from assets.shown.facts import Facts, markdown_table
from atc_pipeline.activation.previews import Preview, as_image, picture
from atc_pipeline.days.previews import examples, extremes
from atc_pipeline.escaping import markdown
from atc_pipeline.journeys.portfolio import Portfolio
from resources.storage.lake import Lake

MOST_PICTURES = 24
MOST_LETTERS = 40_000
"""Pictures of a day, and letters of one, that Dagster keeps for ever: where it would have more, it is a picture of the text."""
_LETTERS_BELOW = 400
"""Of the text that stands below a picture."""
_CAUGHT = ":(guardrail:|no_content$)"


def content_pictures(_: Lake, portfolio: Portfolio, day: date) -> Facts:
    """Draw each content of the portfolio as somebody would get it who does not exist: one variant of all, then their others."""
    each = [examples(portfolio, content, day) for content in portfolio.content[:MOST_PICTURES]]
    shown = (preview for versions in zip_longest(*each) for preview in versions if preview is not None)
    return _pictures("previews", shown, f"{len(portfolio.content):,} contents")


def message_pictures(lake: Lake, portfolio: Portfolio, day: date) -> Facts:
    """Draw the shortest and the longest message of each content of the day, and count what guardrails caught."""
    messages = lake.lazy("outbound_messages", day)
    tried = messages.select("content", why=pl.concat_list("tried", pl.concat_str("channel", "withheld", separator=":")))
    caught = tried.explode("why").filter(pl.col("why").str.contains(_CAUGHT)).group_by("content", "why").len("messages")
    counted = caught.sort("messages", "content", "why", descending=[True, False, False]).collect()
    contents = lake.lazy("rendered_messages", day).select(pl.col("content").unique().sort()).collect()["content"].to_list()
    shown = extremes(lake, portfolio, day, contents[: MOST_PICTURES // 2])
    facts = _pictures("shortest_and_longest", iter(shown), f"{len(contents):,} contents")
    return facts if counted.is_empty() else {**facts, "caught": markdown_table(counted)}


def _pictures(name: str, previews: Iterator[Preview], of: str) -> Facts:
    shown = ["\n\n".join(_shown(preview)) for preview in islice(previews, MOST_PICTURES)]
    more = [f"The first {MOST_PICTURES} pictures, of {of}; the others: `python -m atc_pipeline preview`"]
    return {name: dg.MetadataValue.md("\n\n".join(shown + more * (len(shown) == MOST_PICTURES)))} if shown else {}


def _shown(preview: Preview) -> Sequence[str]:
    image = as_image(picture(preview), preview.name)
    if len(image) > MOST_LETTERS:
        image = as_image(picture(preview._replace(html=None, text=(preview.text or "")[:_LETTERS_BELOW])), preview.name)
    problem = [f"Would not be sent: {markdown(preview.problem)}"] if preview.problem else []
    text = (preview.shown().text or "")[:_LETTERS_BELOW]
    return [f"**{markdown(preview.name)}**", image, *problem, "  \n".join(markdown(line) for line in text.split("\n") if line.strip())]
