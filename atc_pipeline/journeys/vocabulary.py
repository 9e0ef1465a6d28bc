"""The words of the dialect: its functions and what they do, its signs, and for what is outside of it what to write instead.

What belongs here: one entry per word. What does not: reading an expression (``dialect``).
"""

import operator
from collections.abc import Callable, Mapping
from typing import Literal

import polars as pl

Kind = Literal["number", "text", "date", "boolean", "list"]

KEYWORDS = frozenset({"and", "or", "not", "is", "null", "true", "false", "between", "in", "like", "case", "when", "then", "else", "end"})
"""Words that cannot stand bare as the name of a column."""

ORDERINGS = frozenset({"<", "<=", ">", ">="})
COMPARISONS = ORDERINGS | {"=", "==", "!=", "<>"}
WORD_PREDICATES = frozenset({"between", "in", "like"})
NEVER_NAMES = frozenset({"current_date", "current_timestamp", "current_time", "localtime", "localtimestamp", "select", "exists"})
NOUNS: Mapping[Kind | None, str] = {
    "number": "a number",
    "text": "text",
    "date": "a date",
    "boolean": "true or false",
    "list": "a list",
    None: "always null",
}
KINDS: Mapping[pl.DataType, Kind] = {
    pl.Int64(): "number",
    pl.Float64(): "number",
    pl.String(): "text",
    pl.Date(): "date",
    pl.Boolean(): "boolean",
    pl.List(pl.String()): "list",
}
PROPERTY_TYPES: Mapping[Kind, pl.DataType] = {"text": pl.String(), "number": pl.Float64(), "boolean": pl.Boolean()}
CAST_TYPES: Mapping[str, tuple[pl.DataType, Kind]] = {
    **dict.fromkeys(("bigint", "int", "integer"), (pl.Int64(), "number")),
    **dict.fromkeys(("double", "float", "real"), (pl.Float64(), "number")),
    **dict.fromkeys(("varchar", "text", "string"), (pl.String(), "text")),
}
COMPARE: Mapping[str, tuple[Callable[[pl.Expr, pl.Expr], pl.Expr], Callable[[pl.Expr, pl.Expr], pl.Expr]]] = {
    # and the same from the other side
    **dict.fromkeys(("=", "=="), (operator.eq, operator.eq)),
    **dict.fromkeys(("!=", "<>"), (operator.ne, operator.ne)),
    "<": (operator.lt, operator.gt),
    "<=": (operator.le, operator.ge),
    ">": (operator.gt, operator.lt),
    ">=": (operator.ge, operator.le),
}
DATE_PARTS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda day: day.dt.year(),
    "quarter": lambda day: day.dt.quarter(),
    "month": lambda day: day.dt.month(),
    "week": lambda day: day.dt.week(),
    "day": lambda day: day.dt.day(),
    "dow": lambda day: day.dt.weekday() % 7,
    "isodow": lambda day: day.dt.weekday(),
    "doy": lambda day: day.dt.ordinal_day(),
    "isoyear": lambda day: day.dt.iso_year(),
}
CALLS: Mapping[str, Callable[..., pl.Expr]] = {
    "least": pl.min_horizontal,
    "greatest": pl.max_horizontal,
    "coalesce": pl.coalesce,
    "ifnull": pl.coalesce,
    "abs": lambda number: number.abs(),
    "round": lambda number, decimals=0: number.round(decimals, mode="half_away_from_zero"),
    "floor": lambda number: number.floor(),
    "ceil": lambda number: number.ceil(),
    "ln": lambda number: number.log(),
    "exp": lambda number: number.exp(),
    "sqrt": lambda number: number.sqrt(),
    "lower": lambda text: text.str.to_lowercase(),
    "upper": lambda text: text.str.to_uppercase(),
    "length": lambda text: text.str.len_chars().cast(pl.Int64),
    "starts_with": lambda text, start: text.str.starts_with(start),
    "ends_with": lambda text, end: text.str.ends_with(end),
    "array_contains": lambda values, value: values.list.contains(value),
}
SIGNATURES: Mapping[str, tuple[tuple[Kind, ...], int, int, Kind | None]] = {
    # the kinds an argument may have, the least and the most arguments, the kind of the result (None: that of the arguments)
    "least": (("number", "text", "date"), 2, 99, None),
    "greatest": (("number", "text", "date"), 2, 99, None),
    "coalesce": (("number", "text", "date", "boolean"), 1, 99, None),
    "ifnull": (("number", "text", "date", "boolean"), 2, 2, None),
    "nullif": (("number", "text", "date", "boolean"), 2, 2, None),
    "abs": (("number",), 1, 1, "number"),
    "round": (("number",), 1, 2, "number"),
    "floor": (("number",), 1, 1, "number"),
    "ceil": (("number",), 1, 1, "number"),
    "pow": (("number",), 2, 2, "number"),
    "ln": (("number",), 1, 1, "number"),
    "exp": (("number",), 1, 1, "number"),
    "sqrt": (("number",), 1, 1, "number"),
    "lower": (("text",), 1, 1, "text"),
    "upper": (("text",), 1, 1, "text"),
    "length": (("text",), 1, 1, "number"),
    "starts_with": (("text",), 2, 2, "boolean"),
    "ends_with": (("text",), 2, 2, "boolean"),
}
FUNCTIONS = (*SIGNATURES, "array_contains", "extract", "try_cast")
"""Every function of the dialect; whatever is not listed is refused."""

AGES = "use tenure_days or a days_since_* trait, which count whole days up to the day of the run"
AGGREGATE = "looks at many rows, and an expression sees one: declare a trait that counts or adds up, and name it here"
CLOCK = f"reads the clock, and a day must come out the same whenever it is computed: {AGES}"
DATE_ARITHMETIC = f"calculates with dates, which gives no number: {AGES}"
TOO_LONG = "write x in (a, b, ...) for many values, or name a part of it as a segment or a trait"
TEXT_TESTS = "is outside the dialect: write x like '%part%', or lower(x) like '%part%' for any case"
REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(("sum", "avg", "mean", "count", "median", "stddev", "variance", "first", "last", "quantile", "any_value"), AGGREGATE),
    "min": f"{AGGREGATE}; the smaller of two values is least(a, b)",
    "max": f"{AGGREGATE}; the larger of two values is greatest(a, b)",
    **dict.fromkeys(
        ("over", "row_number", "rank", "dense_rank", "percent_rank", "lag", "lead"), f"is a window function, which {AGGREGATE}"
    ),
    **dict.fromkeys(("select", "exists"), f"starts a subquery, which {AGGREGATE}"),
    **dict.fromkeys(("now", "today", "current_date", "current_timestamp", "current_time", "localtime", "localtimestamp"), CLOCK),
    **dict.fromkeys(("interval", "date_diff", "datediff", "date_add", "date_sub", "date_trunc", "age"), DATE_ARITHMETIC),
    **dict.fromkeys(("date_part", "year", "month", "day", "week"), "is written extract(month from x) here"),
    "date": "is no function here: a date is written date '2026-12-24'",
    **dict.fromkeys(("timestamp", "datetime", "time"), "is outside the dialect: columns are whole days, written date '2026-12-24'"),
    **dict.fromkeys(("cast", "::"), "stops the run at the first value that does not fit: write try_cast(x as double), which gives null"),
    **dict.fromkeys(("is_null", "isnull"), "is written x is null here"),
    **dict.fromkeys(("is_not_null", "notnull"), "is written x is not null here"),
    **dict.fromkeys(("if", "iff", "iif"), "is written case when ... then ... else ... end here"),
    **dict.fromkeys(("power", "**", "^"), "is written pow(x, 2) here"),
    **dict.fromkeys(("log", "log10", "log2"), "is outside the dialect: ln(x) is the natural logarithm"),
    "ceiling": "is written ceil(x) here",
    **dict.fromkeys(("len", "char_length", "strlen"), "is written length(x) here"),
    **dict.fromkeys(("ilike", "similar", "rlike", "regexp", "regexp_like", "~", "contains", "strpos", "position"), TEXT_TESTS),
    **dict.fromkeys(("array_has", "list_contains", "list_has"), "is written array_contains(x, 'value') here"),
    **dict.fromkeys(("concat", "||"), "is outside the dialect: text is compared, never put together"),
    **dict.fromkeys(("div", "//"), "is outside the dialect: write floor(a / b)"),
    **dict.fromkeys(("mod",), "is written a % b here"),
    "xor": "is outside the dialect: write (a and not b) or (b and not a)",
    "<=>": "is outside the dialect: write x = y, and x is null",
    "&&": "is written 'and' here",
    "!": "is written 'not' here",
    "--": "starts a comment: comments belong to YAML, after a #",
    "/*": "starts a comment: comments belong to YAML, after a #",
}
