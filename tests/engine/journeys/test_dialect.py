"""The expression dialect: what it gives, what it refuses and in which words, and that what it accepts runs.

What belongs here: expressions against a schema. What does not: where they stand in ``journeys.yaml`` (``test_journeys``).
"""

from datetime import date
from math import isnan
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc_pipeline.journeys.dialect import DialectError, compile_condition, compile_event_condition, compile_number
from atc_pipeline.journeys.vocabulary import FUNCTIONS

SCHEMA: dict[str, pl.DataType] = {
    "orders": pl.Int64(),
    "spend": pl.Float64(),
    "plan": pl.String(),
    "first_seen_on": pl.Date(),
    "last_seen_on": pl.Date(),
    "unsubscribed": pl.Boolean(),
    "categories": pl.List(pl.String()),
}
CUSTOMERS = pl.DataFrame(
    {
        "orders": [2, None, 0],
        "spend": [10.5, None, -4.0],
        "plan": ["gold", None, "it's"],
        "first_seen_on": [date(2026, 1, 31), None, date(2024, 2, 29)],
        "last_seen_on": [date(2026, 3, 1), None, date(2024, 2, 29)],
        "unsubscribed": [True, None, False],
        "categories": [["ski"], None, []],
    },
    schema=SCHEMA,
)
AGES = "use tenure_days or a days_since_* trait, which count whole days up to the day of the run"
ONE_ROW = "looks at many rows, and an expression sees one: declare a trait that counts or adds up, and name it here"
CLOCK = f"reads the clock, and a day must come out the same whenever it is computed: {AGES}"
NO_NUMBER = f"calculates with dates, which gives no number: {AGES}"
TEXT_TESTS = "is outside the dialect: write x like '%part%', or lower(x) like '%part%' for any case"
CAST = "stops the run at the first value that does not fit: write try_cast(x as double), which gives null"
NO_PROPERTY = "and properties are text, numbers or true/false"
NO_CHAIN = "write 5 < x and x < 10, or use brackets"


def evaluate(condition: Any) -> list[Any]:
    """Return an expression's value for each of the three customers; the second one is all nulls."""
    return CUSTOMERS.lazy().select(pl.col("orders"), value=condition.expr).collect()["value"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("orders > 1", [True, False, False]),
        ("orders = 2 or orders == 0", [True, False, True]),
        ("orders <> 2", [False, False, True]),
        ("not orders = 2", [False, False, True]),
        ("not (not orders = 2)", [True, False, False]),
        ("unsubscribed", [True, False, False]),
        ("not unsubscribed", [False, False, True]),
        ("NOT unsubscribed IS NULL", [True, False, True]),
        ("unsubscribed = false", [False, False, True]),
        ("coalesce(unsubscribed, true)", [True, True, False]),
        ("(orders > 1) = unsubscribed", [True, False, True]),
        ("orders = 0 or spend > 0 and plan = 'gold'", [True, False, True]),
        ("spend between -4 and 0.5", [False, False, True]),
        ("spend not between -4 and 0.5", [True, False, False]),
        ("orders in (2, 3.5)", [True, False, False]),
        ("orders not in (2)", [False, False, True]),
        ("plan in ('gold', 'it''s')", [True, False, True]),
        ("plan like 'g%d'", [True, False, False]),
        ("plan not like '%''s'", [True, False, False]),
        ("plan >= 'h'", [False, False, True]),
        ("plan is null", [False, True, False]),
        ('"plan" is not null', [True, False, True]),
        ("starts_with(plan, 'go') or ends_with(plan, '''s')", [True, False, True]),
        ("array_contains(categories, 'ski')", [True, False, False]),
        ("categories is null", [False, True, False]),
        ("first_seen_on < date '2026-01-01'", [False, False, True]),
        ("last_seen_on > first_seen_on", [True, False, False]),
        ("first_seen_on in (date '2026-01-31')", [True, False, False]),
        ("extract(month from greatest(first_seen_on, last_seen_on)) = 3", [True, False, False]),
        ("length(plan) - 5 < 0", [True, False, True]),
        ("true", [True, True, True]),
    ],
)
def test_a_condition_is_true_or_false_for_everybody(text: str, expected: list[bool]) -> None:
    """Null is false, whatever the condition; keywords are case-blind, columns are not."""
    assert evaluate(compile_condition(text, SCHEMA)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", [0, 0, 0]),
        ("orders", [2, None, 0]),
        ("1 + 2 * orders - -1", [6, None, 2]),
        ("-(orders + 1) % 2", [-1, None, -1]),
        ("orders / 4", [0.5, None, 0]),
        ("orders * 0.1", [0.2, None, 0]),
        ("0.1 + 0.2", [0.1 + 0.2] * 3),
        ("60 * 60 * 24 * 365 * 100", [3153600000] * 3),
        ("extract(month from first_seen_on) * 1000", [1000, None, 2000]),
        ("extract(dow from first_seen_on)", [6, None, 4]),
        ("length(plan) - 5", [-1, None, -1]),
        ("pow(orders, -1)", [0.5, None, float("inf")]),
        ("least(orders, 1, null)", [1, 1, 0]),
        ("ifnull(nullif(orders, 0), 7)", [2, 7, 7]),
        ("abs(spend) + round(1.26, 1) + floor(1.5) + ceil(1.5)", [14.8, None, 8.3]),
        ("round(exp(ln(sqrt(16))))", [4, 4, 4]),
        ("try_cast(plan as bigint)", [None, None, None]),
        ("try_cast(upper(try_cast(spend as varchar)) as double)", [10.5, None, -4]),
        ("try_cast(unsubscribed as int)", [1, None, 0]),
        ("case when orders > 1 then 3 when orders is null then 2.5 end", [3, 2.5, None]),
        ("case lower(plan) when 'gold' then 1 else 0 end", [1, 0, 0]),
    ],
)
def test_a_number_is_a_float_for_everybody(text: str, expected: list[float | None]) -> None:
    """Decimals are floats, whole numbers do not wrap at 32 bits or below zero, null stays null."""
    assert evaluate(compile_number(text, SCHEMA)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # names
        ("order > 1", "unknown column 'order'; did you mean 'orders'?"),
        ("Orders > 1", "unknown column 'Orders'; did you mean 'orders'?"),
        ("xyz > 1", "unknown column 'xyz'"),
        ('plan = "gold"', "unknown column 'gold'; double quotes name columns: use single quotes for text, 'gold'"),
        ('plan like "g%"', "double quotes name columns: use single quotes for text, 'g%'"),
        ("plan = ‘gold’", "‘ is no quote here: text stands in straight single quotes, 'text'"),
        ("plan = 'gold", "the quote that opens at 'gold is never closed (a quote inside text is written twice: 'it''s')"),
        ("plans.name = 'gold'", "unknown column 'plans'; did you mean 'plan'?"),
        # dates
        ("last_seen_on - first_seen_on > 5", f"last_seen_on - first_seen_on {NO_NUMBER}"),
        ("last_seen_on + 5 > first_seen_on", f"last_seen_on + 5 {NO_NUMBER}"),
        ("last_seen_on - interval '5 days' > first_seen_on", f"'interval' {NO_NUMBER}"),
        ("datediff(last_seen_on, first_seen_on) > 5", f"'datediff' {NO_NUMBER}"),
        ("first_seen_on > 5", f"first_seen_on is a date and 5 is a number: {AGES}"),
        ("first_seen_on > '2026-01-01'", "first_seen_on is a date and '2026-01-01' is text: write date '2026-01-01'"),
        ("first_seen_on in ('yesterday')", "first_seen_on is a date and 'yesterday' is text: a date is written date '2026-12-24'"),
        ("first_seen_on > date '2026-02-30'", "date '2026-02-30' is no day of the calendar: dates are written date '2026-12-24'"),
        ("first_seen_on > date('2026-01-01')", "'date' is no function here: a date is written date '2026-12-24'"),
        ("first_seen_on > timestamp '2026-01-01'", "'timestamp' is outside the dialect: columns are whole days, written date '2026-12-24'"),
        ("first_seen_on < current_date", f"'current_date' {CLOCK}"),
        ("first_seen_on < now()", f"'now' {CLOCK}"),
        (
            "try_cast(plan as date) > date '2026-01-01'",
            "try_cast to date is outside the dialect: text such as '2026-12-24' compares in date order",
        ),
        ("month(first_seen_on) = 1", "'month' is written extract(month from x) here"),
        (
            "extract(hour from first_seen_on) = 1",
            "expected one of year, quarter, month, week, day, dow, isodow, doy, isoyear after extract(, found hour",
        ),
        ("extract(year from plan) = 1", "plan is text, and extract needs a date"),
        # kinds
        ("orders", "orders is a number, and a condition needs true or false: compare it with something"),
        ("orders and unsubscribed", "orders is a number, and 'and' needs true or false: compare it with something"),
        ("not orders", "orders is a number, and 'not' needs true or false: compare it with something"),
        ("case when orders then true end", "orders is a number, and 'when' needs true or false: compare it with something"),
        ("orders = 'abc'", "orders is a number and 'abc' is text: numbers stand without quotes"),
        ("'text' > 5", "'text' is text and 5 is a number: numbers stand without quotes"),
        ("plan > 5", "plan is text and 5 is a number: text stands in single quotes, and try_cast(plan as double) reads it as a number"),
        ("orders in (1, 'a')", "orders is a number and 'a' is text: numbers stand without quotes"),
        ("plan = true", "plan is text and true is true or false: text stands in single quotes, 'true'"),
        ("unsubscribed = 'true'", "unsubscribed is true or false and 'true' is text: write unsubscribed alone, or not unsubscribed"),
        ("unsubscribed = 1", "unsubscribed is true or false and 1 is a number: write unsubscribed alone, or not unsubscribed"),
        ("orders = true", "orders is a number and true is true or false"),
        ("unsubscribed > false", "unsubscribed is true or false, which have no order: write it alone, or 'not' before it"),
        ("unsubscribed + 1 > 1", "unsubscribed is true or false, and '+' needs a number: write case when unsubscribed then 1 else 0 end"),
        ("plan * 2 > 1", "plan is text, and '*' needs a number: write try_cast(plan as double)"),
        ("orders + '1' > 1", "'1' is text, and '+' needs a number: numbers stand without quotes"),
        ("-plan > 1", "plan is text, and '-' needs a number: write try_cast(plan as double)"),
        ("orders like '1%'", "orders is a number, and 'like' needs text"),
        ("length(categories) > 1", "categories is a list, and length needs text"),
        ("categories = 'ski'", "categories is a list: write array_contains(categories, 'value')"),
        ("'ski' in (categories)", "categories is a list: write array_contains(categories, 'value')"),
        ("array_contains(plan, 'ski')", "plan is text, and array_contains needs a list"),
        ("array_contains(categories, 1)", "1 is a number, and array_contains needs text"),
        ("coalesce(orders, 'none') = 'none'", "orders is a number and 'none' is text: numbers stand without quotes"),
        ("least(unsubscribed, true)", "unsubscribed is true or false, and least needs a number or text or a date"),
        ("try_cast(categories as varchar) = ''", "categories is a list, and try_cast needs text or a number or true or false or a date"),
        # null
        ("orders = null", "a comparison with null is never true: write orders is null, or is not null"),
        ("orders not in (1, null)", "a comparison with null is never true: write orders is null, or is not null"),
        ("null", "null is always null, and a condition needs true or false"),
        ("is_null(orders)", "'is_null' is written x is null here"),
        ("unsubscribed is true", "'is' knows null and not null, found true: write x, not x or x = y"),
        ("orders is distinct from 1", "'is' knows null and not null, found distinct: write x, not x or x = y"),
        # syntax
        ("", "the expression is empty"),
        ("orders >", "expected a column, a number or 'text' after orders >, it ends"),
        ("orders spend > 5", "expected an operator or the end after orders, found spend"),
        ("(orders > 5", "expected ')' after (orders > 5, it ends"),
        ("orders > 5)", "expected an operator or the end after orders > 5, found )"),
        ("and orders > 5", "expected a column, a number or 'text', found and"),
        ("orders between 1, 2", "expected 'and' after orders between 1, found ,"),
        ("orders in 1", "expected '(' after orders in, found 1"),
        ("orders like plan", "orders is a number, and 'like' needs text"),
        ("plan like plan", "expected a pattern such as 'hand%' after plan like, found plan"),
        ("case orders > 5 end", "expected 'when' after case orders > 5, found end"),
        ("5 < orders < 10", f"comparisons do not chain, as in 5 < orders < ...: {NO_CHAIN}"),
        ("orders = spend is null", f"comparisons do not chain, as in orders = spend is ...: {NO_CHAIN}"),
        ("plan in ('a') = unsubscribed", f"comparisons do not chain, as in plan in ('a') = ...: {NO_CHAIN}"),
        ("orders > 5 -- few", "'--' starts a comment: comments belong to YAML, after a #"),
        ("orders > 5; spend > 5", "';' is outside the dialect (at ; spend > 5)"),
        ("orders > 1_000", "1_000 begins like a number and is none: numbers are written 1000, 0.5 or 1e6"),
        ("orders > 9223372036854775808", "the number 9223372036854775808 is too large"),
        ("spend > 1e999", "the number 1e999 is too large"),
        ("(" * 10 + "orders" + ")" * 10, "more than 9 brackets (or cases) inside each other: name a part of it as a segment or a trait"),
        # functions and operators
        ("sum(orders) > 5", f"'sum' {ONE_ROW}"),
        ("count(*) > 5", f"'count' {ONE_ROW}"),
        ("max(orders, 5) > 5", f"'max' {ONE_ROW}; the larger of two values is greatest(a, b)"),
        ("rank() over (order by spend) < 10", f"'rank' is a window function, which {ONE_ROW}"),
        ("abs(spend) over (partition by plan) < 10", f"'over' is a window function, which {ONE_ROW}"),
        ("orders in (select 1)", f"'select' starts a subquery, which {ONE_ROW}"),
        ("exists (select 1)", f"'exists' starts a subquery, which {ONE_ROW}"),
        ("lowr(plan) = 'gold'", "'lowr' is no function here; did you mean 'lower'?"),
        ("md5(plan) = 'gold'", f"'md5' is no function here; there are {', '.join(FUNCTIONS)}"),
        ("cast(plan as double) > 5", f"'cast' {CAST}"),
        ("plan::double > 5", f"'::' {CAST}"),
        ("try_cast(plan as decimal) > 5", "try_cast knows bigint, double and varchar, found decimal"),
        ("plan ilike 'G%'", f"'ilike' {TEXT_TESTS}"),
        ("plan ~ 'g.*'", f"'~' {TEXT_TESTS}"),
        ("plan || 'x' = 'goldx'", "'||' is outside the dialect: text is compared, never put together"),
        ("orders // 2 = 1", "'//' is outside the dialect: write floor(a / b)"),
        ("orders ^ 2 = 1", "'^' is written pow(x, 2) here"),
        ("orders > 1 && spend > 1", "'&&' is written 'and' here"),
        ("! unsubscribed", "'!' is written 'not' here"),
        ("if(unsubscribed, 1, 2) = 1", "'if' is written case when ... then ... else ... end here"),
        ("round(spend, orders) = 1", "round needs its number of decimals in digits, as in round(x, 2), found orders"),
        ("abs(spend, 1) = 1", "abs takes 1 value in its brackets, found 2"),
        ("round() = 1", "round takes 1 or 2 values in its brackets, found 0"),
        ("least(1) = 1", "least takes at least 2 values in its brackets, found 1"),
    ],
)
def test_what_is_outside_the_dialect_is_refused_with_the_remedy(text: str, message: str) -> None:
    """Every trap of Polars' SQL is met at load, in words that say what to write instead."""
    with pytest.raises(DialectError) as refusal:
        compile_condition(text, SCHEMA)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unsubscribed", "unsubscribed is true or false, and a number is expected here"),
        ("first_seen_on", "first_seen_on is a date, and a number is expected here"),
        ("case when unsubscribed then null end", "case when unsubscribed then null end is always null, and a number is expected here"),
        ("case when unsubscribed then 1 else 'a' end", "1 is a number and 'a' is text: numbers stand without quotes"),
    ],
)
def test_a_number_must_be_one(text: str, message: str) -> None:
    """A score that is no number is refused at load, not as a null score in the morning."""
    with pytest.raises(DialectError) as refusal:
        compile_number(text, SCHEMA)

    assert str(refusal.value) == message


def test_a_condition_says_which_columns_it_reads() -> None:
    """Stages select just these, with these types; the text stays as it was written."""
    condition = compile_condition("orders > 1 and (plan = 'gold' or orders is null)", SCHEMA)

    assert condition.text == "orders > 1 and (plan = 'gold' or orders is null)"
    assert condition.columns == {"orders": pl.Int64(), "plan": pl.String()}


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("category = 'handbags'", {"category": pl.String()}),
        ("price >= 100 and category is not null", {"price": pl.Float64(), "category": pl.String()}),
        ("price * quantity > 100", {"price": pl.Float64(), "quantity": pl.Float64()}),
        ("is_gift", {"is_gift": pl.Boolean()}),
        ("not (is_gift = false)", {"is_gift": pl.Boolean()}),
        ("a = b", {"a": pl.String(), "b": pl.String()}),
        ("a = b and b < 5", {"a": pl.Float64(), "b": pl.Float64()}),
        ("coalesce(a, b, c) = d and d", {"a": pl.Boolean(), "b": pl.Boolean(), "c": pl.Boolean(), "d": pl.Boolean()}),
        ("case when a = b then c end", {"a": pl.String(), "b": pl.String(), "c": pl.Boolean()}),
        ("a in (1, 2.5)", {"a": pl.Float64()}),
        ("a in (1, b)", {"a": pl.Float64(), "b": pl.Float64()}),
        ("try_cast(a as double) > 5", {"a": pl.String()}),
        ("date > '2026-01-01' and count = 1 and type like 'a%'", {"date": pl.String(), "count": pl.Float64(), "type": pl.String()}),
        ("shipping.country = 'DE'", {"shipping.country": pl.String()}),
        ("\"Product Name\" = 'Bag'", {"Product Name": pl.String()}),
    ],
)
def test_the_kinds_of_event_properties_follow_from_their_use(text: str, columns: dict[str, pl.DataType]) -> None:
    """Text, unless only a number or true/false makes sense of the condition."""
    assert compile_event_condition(text).columns == columns


def test_a_condition_on_events_runs_over_the_properties_it_names() -> None:
    """A quoted name with a space or a dot is one column."""
    events = pl.DataFrame({"shipping.country": ["DE", None, "FR"], "price": [1.0, 2.0, None]})
    condition = compile_event_condition("shipping.country = 'DE' or price > 1.5")

    assert events.filter(condition.expr).rows() == [("DE", 1.0), (None, 2.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('category = "handbags"', "double quotes name columns: use single quotes for text, 'handbags'"),
        ('category in ("handbags")', "double quotes name columns: use single quotes for text, 'handbags'"),
        ("size in ('m', 38)", "'m' is text and 38 is a number: numbers stand without quotes"),
        ("is_gift in (true, 1)", "true is true or false and 1 is a number"),
        (
            "category = 'a' and category > 5",
            "category is text and 5 is a number: text stands in single quotes, and try_cast(category as double) reads it as a number",
        ),
        (
            "bought_on > date '2026-01-01'",
            f"property 'bought_on' is used as a date, {NO_PROPERTY}; text such as '2026-12-24' compares in date order",
        ),
        ("array_contains(sizes, 'm')", f"property 'sizes' is used as a list, {NO_PROPERTY}"),
        ("price + 1", "price + 1 is a number, and a condition needs true or false: compare it with something"),
        ("timestamp > now()", f"'now' {CLOCK}"),
        ("timestamp > current_timestamp", f"'current_timestamp' {CLOCK}"),
    ],
)
def test_a_condition_on_events_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    """Nothing says which properties there are, so quotes and kinds are all there is to check."""
    with pytest.raises(DialectError) as refusal:
        compile_event_condition(text)

    assert str(refusal.value) == message


def test_the_deepest_expression_is_within_the_reach_of_polars() -> None:
    """Python and Polars go as deep as they can hold; our limit must come first."""
    text = "orders"
    for _ in range(4):
        text = f"case when unsubscribed or not orders = 1 + 2 * -pow({text}, 2) then 1 else 2 end"

    assert evaluate(compile_number(text, SCHEMA)) == [1, 2, 1]
    with pytest.raises(DialectError, match="inside each other"):
        compile_number(f"pow(abs({text}), 2)", SCHEMA)


class Writer:
    """Writes random expressions of the dialect, each of the kind asked for."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def number(self, depth: int) -> str:
        """Write a number."""
        if not depth:
            return self.random.choice(["orders", "spend", "0", "2.5", "-1", "1e3"])
        a, b = self.number(depth - 1), self.number(depth - 1)
        name = self.random.choice(["abs", "round", "floor", "ceil", "ln", "exp", "sqrt"])
        part = self.random.choice(["year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "isoyear"])
        any_ = self.random.choice([self.number, self.text, self.boolean])(depth - 1)
        return self.random.choice(
            [
                f"({a}) {self.random.choice('+-*/%')} ({b})",
                f"-({a})",
                f"{self.random.choice(['least', 'greatest', 'coalesce', 'ifnull', 'nullif'])}({a}, {b})",
                f"{name}({a})",
                f"round({a}, 2)",
                f"pow({a}, {b})",
                f"length({self.text(depth - 1)})",
                f"extract({part} from {self.date(depth - 1)})",
                f"try_cast({any_} as {self.random.choice(['bigint', 'double'])})",
                f"case when {self.boolean(depth - 1)} then {a} else {b} end",
            ]
        )

    def text(self, depth: int) -> str:
        """Write a text."""
        if not depth:
            return self.random.choice(["plan", "'gold'", "'2'", "'it''s'", "''"])
        a, b = self.text(depth - 1), self.text(depth - 1)
        any_ = self.random.choice([self.number, self.text, self.boolean, self.date])(depth - 1)
        return self.random.choice([f"lower({a})", f"coalesce({a}, {b})", f"least({a}, {b})", f"try_cast({any_} as varchar)"])

    def date(self, depth: int) -> str:
        """Write a date."""
        if not depth:
            return self.random.choice(["first_seen_on", "last_seen_on", "date '2026-01-31'"])
        return f"{self.random.choice(['least', 'greatest', 'coalesce'])}({self.date(depth - 1)}, {self.date(depth - 1)})"

    def boolean(self, depth: int) -> str:
        """Write a condition."""
        if not depth:
            return self.random.choice(["unsubscribed", "true", "false"])
        kind = self.random.choice([self.number, self.text, self.date])
        a, b, c = kind(depth - 1), kind(depth - 1), kind(0)
        p, q = self.boolean(depth - 1), self.boolean(depth - 1)
        return self.random.choice(
            [
                f"({a} {self.random.choice(['=', '==', '<>', '!=', '<', '<=', '>', '>='])} {b})",
                f"({p} {self.random.choice(['and', 'or'])} {q})",
                f"(not {p})",
                f"({a} {self.random.choice(['', 'not '])}between {b} and {c})",
                f"({a} {self.random.choice(['', 'not '])}in ({b}, {c}))",
                f"({self.text(depth - 1)} like '{self.random.choice(['g%', '%o%', '_', '', 'g_ld'])}')",
                f"({a} is null)",
                f"array_contains(categories, {self.text(depth - 1)})",
                f"starts_with({self.text(depth - 1)}, {self.text(depth - 1)})",
                f"case {a} when {b} then {p} else {q} end",
            ]
        )


@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_what_the_dialect_accepts_runs_on_every_row(random: Random, depth: int) -> None:
    """Nothing that loads fails in the morning: no error on real rows, the promised type, and no null in a condition."""
    writer = Writer(random)
    for kind, compiler, dtype in ((writer.boolean, compile_condition, pl.Boolean), (writer.number, compile_number, pl.Float64)):
        condition = compiler(kind(depth), SCHEMA)

        values = CUSTOMERS.lazy().select(pl.col("orders"), value=condition.expr).collect()["value"]

        assert values.dtype == dtype
        assert compiler is compile_number or not values.null_count()


def bits(values: pl.Series) -> list[Any]:
    """Return values as they are compared bit for bit: -0.0 is not 0.0, and every NaN is the same."""
    if values.dtype != pl.Float64:
        return values.to_list()
    return [None if value is None else "nan" if isnan(value) else value.hex() for value in values]


ODD = [0.0, -0.0, 1.0, -1.0, 0.1, 3.0, 5e-324, -1e308, float("inf"), float("nan"), None]


@given(st.randoms(use_true_random=False), st.integers(1, 2))
def test_a_row_is_worth_what_it_is_worth_alone(random: Random, depth: int) -> None:
    """No number of rows, no order, no chunks and no engine changes a bit; nor does a column that is one value for all rows."""
    height = random.choice([2, 3, 11])
    spends = random.choices([*ODD, round(random.uniform(-500, 500), 2)], k=height)
    rows = pl.DataFrame({"spend": spends}).with_columns(
        pl.Series("orders", random.choices([0, 1, 2, 3, 9, None], k=height), dtype=pl.Int64),
        pl.Series("plan", random.choices(["gold", "it's", "2", "", None], k=height), dtype=pl.String),
        pl.Series("categories", random.choices([["ski"], [], None], k=height), dtype=pl.List(pl.String)),
        pl.lit(random.choice([True, False, None]), dtype=pl.Boolean).alias("unsubscribed"),
        first_seen_on=date(2026, 1, 31),
        last_seen_on=pl.lit(date(2024, 2, 29)),
    )
    if random.random() < 0.5:
        rows = rows.with_columns(spend=pl.lit(random.choice(ODD), dtype=pl.Float64))
    writer = Writer(random)
    for kind, compiler in ((writer.boolean, compile_condition), (writer.number, compile_number)):
        condition = compiler(kind(depth), SCHEMA)
        alone = [bits(rows[number].select(condition.expr).to_series())[0] for number in range(height)]
        chunked = pl.concat([rows[:1], rows[1:]], rechunk=False)

        for frame in (rows, chunked):
            for engine in ("in-memory", "streaming"):
                together = frame.lazy().with_columns(condition.expr.alias("=")).collect(engine=engine)["="]
                assert bits(together) == alone, condition.text


@pytest.mark.parametrize("letter", [chr(code) for code in range(1, 128) if chr(code) not in "%_'"])
def test_a_letter_of_a_pattern_is_itself(letter: str) -> None:
    """Only % and _ stand for others: what a regular expression takes for a sign is none here."""
    condition = compile_condition(f"plan like 'a{letter}_%'", SCHEMA)
    texts = pl.Series([f"a{letter}x", f"a{letter}\n,", "axx", f"a{letter}", None])

    assert pl.DataFrame({"plan": texts}).select(condition.expr).to_series().to_list() == [True, True, letter == "x", False, False]
