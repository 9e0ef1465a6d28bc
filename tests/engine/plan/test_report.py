"""The report of a plan: one model, and what each rendering of it shows, cuts and escapes.

What belongs here: reports written by hand (``reports``). What does not: how a difference comes about.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from atc_pipeline.plan.markdown import markdown
from atc_pipeline.plan.page import BARS, sparkline
from atc_pipeline.plan.report import MOST_CHARACTERS, Changed, Edited, Example, OfSegment, Report, read, schema, written
from atc_pipeline.plan.terminal import WIDTH, text
from atc_pipeline.plan.verdict import RULES, RuleError, judged, rule
from tests.engine.plan.reports import REPORT, counts, journey

ROOT = Path(__file__).parents[3]
EVIL = "x|`<img src=x onerror=alert(1)>`\n# heading\x1b[31m\u202e @team www.example.com #12 **bold** [a](http://b.example) " + "n" * 500
RENDERINGS = pytest.mark.parametrize("render", [text, markdown])


def with_verdict(**parts: object) -> Report:
    """The report with another verdict."""
    return REPORT.model_copy(update={"verdict": REPORT.verdict.model_copy(update=parts)})


# --- The model -------------------------------------------------------------------------------------------------------


def test_the_schema_in_the_tree_is_that_of_the_code() -> None:
    """Machines that read the JSON read it by docs/plan.schema.json; `make schema` writes it."""
    assert (ROOT / "docs/plan.schema.json").read_text(encoding="utf-8") == schema()


def test_the_json_is_as_its_schema_says() -> None:
    """Every key known and of its type, and no other; checked without the code that wrote it."""
    rules = json.loads(schema())

    assert list(mistakes(json.loads(written(REPORT)), rules, rules)) == []
    broken = json.loads(written(REPORT))
    broken["customers"]["changed"] = "301"
    broken["journeys"][0]["queued"]["before"] = -1
    broken["surprise"] = 1
    del broken["window"]
    assert sorted(mistakes(broken, rules, rules)) == [
        "customers.changed: no integer",
        "journeys.0.queued.before: below 0",
        "surprise: unknown",
        "window: missing",
    ]


def mistakes(value: Any, rules: Any, root: Any, place: str = "") -> list[str]:
    """Check a value by the part of JSON Schema that ours is written in."""
    if "$ref" in rules:
        return mistakes(value, root["$defs"][rules["$ref"].rsplit("/", 1)[1]], root, place)
    if "anyOf" in rules:
        tries = [mistakes(value, option, root, place) for option in rules["anyOf"]]
        return [] if [] in tries else tries[0]
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    kinds["null"] = type(None)
    unknown = set(rules) - {
        *("type", "properties", "required", "additionalProperties", "items", "minimum", "maximum", "exclusiveMaximum", "enum", "const"),
        *("title", "description", "default", "format", "$defs", "$schema"),
    }
    assert not unknown, f"the check knows no {unknown}"
    if "type" in rules and (not isinstance(value, kinds[rules["type"]]) or (isinstance(value, bool) and rules["type"] != "boolean")):
        return [f"{place}: no {rules['type']}"]
    wrong = [f"{place}: {value!r}"] if "enum" in rules and value not in rules["enum"] else []
    wrong += [f"{place}: {value!r}"] if "const" in rules and value != rules["const"] else []
    wrong += [f"{place}: below {rules['minimum']}"] if "minimum" in rules and value < rules["minimum"] else []
    wrong += [f"{place}: above {rules['maximum']}"] if "maximum" in rules and value > rules["maximum"] else []
    if isinstance(value, dict):
        inner = f"{place}." if place else ""
        wrong += [f"{inner}{key}: missing" for key in rules.get("required", []) if key not in value]
        for key, item in value.items():
            wrong += (
                mistakes(item, rules["properties"][key], root, f"{inner}{key}")
                if key in rules["properties"]
                else [f"{inner}{key}: unknown"]
            )
    if isinstance(value, list):
        wrong += [mistake for at, item in enumerate(value) for mistake in mistakes(item, rules["items"], root, f"{place}.{at}")]
    return wrong


@RENDERINGS
def test_every_rendering_is_made_from_the_json(render: Callable[[Report], str]) -> None:
    """Written, read back and rendered, it is the same: nothing is shown that the JSON does not hold."""
    assert read(written(REPORT)) == REPORT
    assert render(read(json.dumps(json.loads(written(REPORT))))) == render(REPORT)


def test_a_report_of_another_shape_is_refused() -> None:
    """A key too many, or a number below nothing, is a mistake of whoever wrote it."""
    for wrong in ('{"format": "atc-plan-1"}', written(REPORT).replace('"changed": 301', '"changed": -1')):
        with pytest.raises(ValidationError):
            read(wrong)


# --- The order, and what it says -------------------------------------------------------------------------------------


@RENDERINGS
def test_parts_come_in_the_order_of_the_contract(render: Callable[[Report], str]) -> None:
    """What matters most first: the verdict, the file, the customers, then what it means for each part."""
    shown = render(judged(REPORT, [rule("changes>10%")])).casefold()
    parts = (
        "12.1 % of customers (301 of 2,487)",
        "301 of 2,487)",
        "what the file changes",
        "customers whose journey changes",
        "day by day",
        "queued",
        "in no journey",
        "of these in no queue",
        "change arm",
        "sum of the scores",
        "customers who change",
        "open loop",
    )

    positions = [shown.index(part) for part in parts]
    assert positions == sorted(positions)


@pytest.mark.parametrize("name", ["spring_sale", "a_journey_that_is_called_by_a_very_long_name_" + "x" * 55])
def test_the_terminal_has_100_columns_and_no_line_ends_in_blanks(name: str) -> None:
    """Whatever is longer is wrapped, and a name too long for its column is cut."""
    text_of_report = written(judged(REPORT, [rule("changes>10%")])).replace("spring_sale", name)
    lines = text(read(text_of_report)).split("\n")

    assert max(map(len, lines)) <= WIDTH
    assert all(line == line.rstrip() for line in lines)


def test_arrows_of_a_column_stand_in_a_line() -> None:
    """Figures before and after are aligned on both sides."""
    table = text(REPORT).split("JOURNEYS\n")[1].splitlines()
    spring, winback = table[1], next(line for line in table if line.startswith("  ~ winback"))
    assert spring.index("→ 240") == winback.index("→  91")


def test_what_is_as_before_is_counted_and_not_shown() -> None:
    """A portfolio of a thousand journeys, of which one changed, gives one row."""
    shown = text(REPORT.model_copy(update={"journeys": (REPORT.journeys[1], *(journey(f"same_{at}") for at in range(999)))}))

    assert "999 journeys as before." in shown
    assert "same_1" not in shown


def test_nothing_changed_is_said_in_few_words() -> None:
    """The same file: nobody moves, nothing differs, and no table is empty."""
    same = REPORT.model_copy(
        update={
            "changes": (),
            "customers": REPORT.customers and REPORT.customers.model_copy(update={"changed": 0}),
            "journeys": tuple(journey(f"j{at}") for at in range(3)),
            "segments": (OfSegment(id="s", how="same", size=counts(5), in_no_queue=counts(1)),),
            "arms": (),
            "examples": (),
        }
    )

    for sentence in (
        "Nothing: it says what it said.",
        "0 of 2,487 customers",
        "3 journeys as before.",
        "1 micro-segment as before.",
        "Nobody changes arm.",
    ):
        assert sentence in text(same)
        assert sentence.rstrip(".") in markdown(same)


def test_what_cannot_be_reproduced_ends_the_report() -> None:
    """Nothing can be compared with days that are decided otherwise than recorded: the first difference is all there is, exit 3.

    It is some customer's row, and so is told in the terminal only.
    """
    broken = with_verdict(is_reproducible=False, first_difference="journey_assignments of 2017-06-03, customer 17: none, recorded winback")
    report = judged(broken, [rule("changes>10%")])

    assert "customer 17: none, recorded winback" in text(report)
    assert "customer 17" not in markdown(report)
    assert "atc_pipeline replay names the rows" in markdown(report)
    assert not [shown for shown in (text(report), markdown(report)) if "Day by day" in shown]
    assert report.verdict.exit_code == 3


def test_customers_are_named_in_the_terminal_and_never_in_markdown() -> None:
    """A pull request is read by more people than the lake: a bucket tells nobody who it is."""
    named = REPORT.model_copy(update={"examples": (REPORT.examples[0].model_copy(update={"customer_id": "jane@example.com"}),)})

    assert "jane@example.com" in text(named)
    assert "jane" not in markdown(named)
    assert "bucket 4711" in markdown(named)


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_a_sparkline_has_a_letter_for_each_number_in_their_order(numbers: list[int]) -> None:
    """The highest is full, zero is the lowest, and of two numbers the larger is never drawn lower."""
    drawn = sparkline(numbers)

    assert len(drawn) == len(numbers)
    heights = [BARS.index(letter) for letter in drawn]
    assert all(
        a <= b
        for _, a, _, b in ((*x, *y) for x in zip(numbers, heights, strict=True) for y in zip(numbers, heights, strict=True) if x[0] < y[0])
    )
    assert all(height == 0 for number, height in zip(numbers, heights, strict=True) if number == 0)


# --- Rules -----------------------------------------------------------------------------------------------------------

FAILURES = [
    ("changes>10%", "12.1 % of customers would be in another journey (301 of 2,487)"),
    ("starved>0", "12 more customers would be queued every day and never enter: spring_sale 12"),
    ("capacity>100%", "more customers than places: spring_sale (388 for 240)"),
    ("messages>+4%", "4,191 messages instead of 4,010 (+4.5 %)"),
    ("empty_segment", "nobody is in newcomers"),
    ("value<0", "it would have earned -0.42 per decision, -0.13 at most"),
    ("unsupported>50%", "61 % of what it would draw was not eligible then, and is not judged"),
]


@pytest.mark.parametrize(("rule_text", "says"), FAILURES)
def test_a_rule_that_fails_says_what_breaks_it(rule_text: str, says: str) -> None:
    """In the verdict, in every rendering, and in the exit code."""
    report = judged(REPORT, [rule(rule_text)])

    assert [(failure.rule, failure.says) for failure in report.verdict.failed] == [(rule_text, says)]
    assert report.verdict.exit_code == 1
    assert f"FAILED  {rule_text}  {says}" in text(report)
    assert f": {says}".replace("**", "") in markdown(report).replace("\\", "")


def test_a_change_of_arms_fails_its_rule() -> None:
    """What was measured so far is lost for them."""
    arms = (REPORT.arms[0].model_copy(update={"changes_arm": 7}), REPORT.arms[1].model_copy(update={"changes_arm": 12}))
    report = judged(REPORT.model_copy(update={"arms": arms}), [rule("arms_change")])

    assert (
        report.verdict.failed[0].says
        == "19 customers would change arm, so what was measured so far is lost for them: 12 in winback, 7 in spring_sale"
    )


@pytest.mark.parametrize(
    "rule_text",
    ["changes>12.2%", "starved>12", "capacity>162%", "messages>+5%", "arms_change", "not_reproducible", "value<-1", "unsupported>61%"],
)
def test_a_rule_that_holds_is_named_and_breaks_nothing(rule_text: str) -> None:
    """So that a reader sees what was asked."""
    report = judged(REPORT, [rule(rule_text)])

    assert (report.verdict.failed, report.verdict.held, report.verdict.exit_code) == ((), (rule_text,), 0)
    assert f"holds   {rule_text}" in text(report)


@pytest.mark.parametrize(
    ("rule_text", "message"),
    [
        ("change>20%", "no rule 'change>20%'; did you mean 'changes'?; there are changes>20%, starved>0, "),
        ("changes>20", "rule 'changes>20' is written like changes>20%"),
        ("changes<20%", "is written like changes>20%"),
        ("starved", "is written like starved>0"),
        ("arms_change>1", "is written like arms_change"),
        ("value", "is written like value<0"),
        ("", "no rule ''"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_in_words(rule_text: str, message: str) -> None:
    """What is expected is said."""
    with pytest.raises(RuleError) as refused:
        rule(rule_text)

    assert message in str(refused.value)


def test_every_rule_has_an_example_that_is_read() -> None:
    """The registry and the grammar agree."""
    for name, kind in RULES.items():
        assert kind.example.startswith(name)
        assert rule(kind.example).judge is kind.judge


# --- Size and escaping -----------------------------------------------------------------------------------------------


def huge() -> Report:
    """A report of a portfolio of 3,000 journeys that all changed."""
    moved = REPORT.journeys[0]
    edits = (Edited(key="description", before="a" * 400, after="b" * 400, words=f"description {'a' * 400} → {'b' * 400}"),)
    return REPORT.model_copy(
        update={
            "changes": tuple(Changed(kind="journey", id=f"j{at}", how="changed", gist="", edits=edits) for at in range(3000)),
            "journeys": tuple(moved.model_copy(update={"id": f"j{at:04}{'x' * 90}"}) for at in range(3000)),
            "segments": tuple(OfSegment(id=f"s{at}", how="new", size=counts(0, 9), in_no_queue=counts(0)) for at in range(3000)),
            "arms": tuple(REPORT.arms[0].model_copy(update={"journey_id": f"j{at}"}) for at in range(3000)),
        }
    )


@RENDERINGS
def test_at_most_60_000_characters_are_shown_and_what_is_cut_is_counted(render: Callable[[Report], str]) -> None:
    """GitHub refuses a longer comment; the JSON has everything."""
    shown = render(huge())

    assert 10_000 < len(shown) <= MOST_CHARACTERS
    for thing in ("changes", "journeys", "micro-segments"):
        assert f"more {thing}: " in shown
    assert "open loop" in shown


@pytest.mark.slow
@RENDERINGS
def test_even_texts_without_end_fit(render: Callable[[Report], str]) -> None:
    """Names, conditions and explanations of any length, everywhere at once."""
    assert len(render(hostile("y" * 3_000))) <= MOST_CHARACTERS


def hostile(evil: str) -> Report:
    """The report with a text in every place that takes one."""
    return Report.model_validate(
        _replaced(json.loads(written(huge() if len(evil) > 2_000 else REPORT)), evil)
        | {
            "format": "atc-plan-1",
            "examples": [Example(bucket=1, customer_id=evil, date="2017-06-01", before=evil, after=evil, says=evil).model_dump()],
        }  # type: ignore[arg-type]
    )


def _replaced(value: Any, evil: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _replaced(item, evil, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, evil, key) for item in value]
    return evil if isinstance(value, str) and key not in {"how", "first", "last", "date", "format", "status"} else value


def test_hostile_text_does_nothing_in_a_terminal() -> None:
    """No control character, no line of its own, in no place."""
    shown = text(hostile(EVIL))

    assert not [letter for letter in shown if unicodedata.category(letter) in {"Cc", "Cf", "Cs"} and letter != "\n"]
    assert not [line for line in shown.splitlines() if line.startswith("# heading")]
    assert "\\n# heading\\x1b[31m\\u202e" in shown


def test_hostile_text_is_text_in_markdown() -> None:
    """No tag, no column, no code, no heading, no mention, no link, no picture, in no place."""
    shown = markdown(hostile(EVIL))
    ours = ("<sub>", "</sub>", "<br>", "<details>", "</details>", "<summary>", "</summary>", "<b>", "</b>")
    for tag in ours:
        shown = shown.replace(tag, "")

    assert "<img" not in shown.replace("\\<", "")
    assert not [letter for letter in shown if unicodedata.category(letter) in {"Cc", "Cf"} and letter != "\n"]
    assert not [line for line in shown.splitlines() if line.startswith("# ")]
    assert "@team" not in shown
    assert " #12" not in shown
    assert not re.search(r"(?<!\\)\]\(", shown)
    widths = {line.count("|") for line in shown.splitlines() if line.startswith("|") and "| **x" in line}
    assert widths <= {4, 5, 6, 7, 9}


def test_each_table_in_markdown_has_as_many_cells_in_every_row() -> None:
    """A bar in a name would make a column of its own."""
    rows: list[int] = []
    for line in [*markdown(hostile(EVIL)).splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line.count("|"))
        else:
            assert len(set(rows)) <= 1
            rows = []
