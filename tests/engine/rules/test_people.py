"""Names: whom an id names, and back again."""

import polars as pl
import pytest

from atc_pipeline.rules.people import id_of, name_of_id


@pytest.mark.parametrize(
    ("id_type", "id_", "name"),
    [("user", "42", "42"), ("anonymous", "42", "anon:42"), ("anonymous", "anon:42", "anon:anon:42"), ("user", "Anon:42", "Anon:42")],
)
def test_a_name_leads_back_to_its_id(id_type: str, id_: str, name: str) -> None:
    """A visitor's name begins with what no user's does."""
    named = pl.DataFrame({"id_type": [id_type], "id": [id_]}).select(name=name_of_id())
    assert named["name"].to_list() == [name]
    assert id_of(name) == (id_type, id_)
