"""``journeys.yaml`` from somebody who means harm, or whose editor went wrong: one clear line, at once, and never a traceback.

What belongs here: files and texts that once ran for ever, ended in a traceback or were accepted and failed later. What does
not: ordinary mistakes (``test_journeys``).
"""

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atc_pipeline.journeys.problems import JourneysError
from atc_pipeline.journeys.resolution import load_portfolio

HEAD = 'version: "1"\ncalendar: {timezone: UTC, starts_on: 2026-01-01}\n'
WELCOME = HEAD + "journeys:\n  - {id: welcome, length_days: 7, queue: {where: tenure_days < 7}"
LAUGHS = HEAD + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'ha'] * 9)}]\n" for n in range(9))
DEEP, LONG = 900, 3000
LETTERS = "a" * 60 + "... (300 letters)"
SECONDS = 2.0  # one, on a machine that does nothing else


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """Stop what runs on: a second of CPU is promised, and other processes may need some too."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refusal(path: Path) -> str:
    """Return the message with which a file is refused, within a second of CPU and little memory."""
    before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(JourneysError) as error:
        load_portfolio(path)
    assert time.process_time() - before < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 400_000
    assert len(str(error.value)) < 10_000
    return str(error.value)


def segment(condition: str) -> str:
    """Return a file with one segment."""
    return HEAD + "segments:\n  s: " + condition + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # YAML that is more than plain
        (LAUGHS, ":7: field 'a4': aliases repeat more than 10,000 values: write them out"),
        (HEAD + "segments: &a [*a]", ":3: field 'segments': the alias *a stands inside what it repeats"),
        (HEAD + "policy: {<<: {score: 1}}", ":3: field 'policy': merge keys (<<) are not read: write the keys out"),
        (HEAD + "x: " + "[" * DEEP + "]" * DEEP, ":3: is nested too deeply"),
        (HEAD + "x: " + "{a: " * DEEP + "1" + "}" * DEEP, ":3: is nested too deeply"),
        (HEAD + "".join(f"{' ' * n}- \n" for n in range(DEEP)), ":3: "),
        (
            HEAD + "segments: !!python/object/apply:os.system [id]",
            ":3: field 'segments': the tag !!python/object/apply:os.system is not read",
        ),
        (HEAD + "segments: !own {}", ":3: field 'segments': the tag !own is not read: write the value alone"),
        (HEAD + "---\n" + HEAD, ":3: a second document begins (---): one file is one portfolio"),
        (HEAD + "? [a, b]\n: c", ":3: a key must be a name"),
        (HEAD + "2026-01-01: c", ":3: a key must be a name"),
        (HEAD + "~: c", ":3: a key must be a name"),
        (HEAD + "segments: {a: 'true', a: 'false'}", ":3: field 'segments': key 'a' is given twice, again in line 3"),
        (HEAD + "segments:\n\ta: b", ":4: is not YAML: "),
        (HEAD + "%", ":3: is not YAML: "),
        (HEAD + "x: " + "a, " * 600_000, ":3: unknown key 'x'"),
        (HEAD + "x: [" + f"[{'a, ' * 9_000}], " * 30 + "]", ": it has more than 200,000 values"),
        (HEAD + "x: [" + "[" * 15 + "]" * 15 + "]", ":3: unknown key 'x'"),
        # many of one kind
        (HEAD + "journeys: [" + "{x: 1}, " * 60_000 + "]", ":3: field 'journeys': it has more than 10,000 items"),
        (HEAD + "segments:\n" + "".join(f"  s{n}: 1\n" for n in range(11_000)), ":10004: field 'segments': it has more than 10,000 keys"),
        (HEAD + "journeys: [" + "{x: 1}, " * 10_000 + "]", "... and 9980 more"),
        (HEAD + "journeys: [" + "1, " * 10_000 + "]", "... and 9980 more"),
        (WELCOME + ", next_journeys: [" + "".join(f"welcom{n}, " for n in range(LONG)) + "]}", "... and 2980 more"),
        # letters
        (HEAD + 'policy: {score: "1\\0"}', ":3: field 'policy.score': the character U+0000 is not seen and changes what is: remove it"),
        (HEAD + "policy: {score: '1\0'}", ":3: the character U+0000 is not seen and changes what is: remove it"),
        (WELCOME + ', name: "\\u202ereverse"}', ":4: journey 1, field 'name': the character U+202E is not seen"),
        (WELCOME + ", description: '\u2067'}", ":4: the character U+2067 is not seen and changes what is: remove it"),
        (WELCOME + ', owner: "\\e[31m"}', ":4: journey 1, field 'owner': the character U+001B is not seen"),
        # names and texts
        (HEAD + f"journeys: [{{id: {'a' * 300}}}]", f"journey '{LETTERS}', field 'id': expected at most 100 letters, found '{LETTERS}'"),
        (HEAD + f"channels: {{{'a' * 300}: {{consent: none}}}}", f"channel '{LETTERS}': expected at most 100 letters, found '{LETTERS}'"),
        (HEAD + f"traits: {{{'a' * 300}: {{count: A}}}}", "expected at most 100 letters"),
        (HEAD + f"segments: {{{'a' * 300}: 'true'}}", "expected at most 100 letters"),
        (HEAD + f"interests: {{topics: {{{'a' * 300}: [{{event: A}}]}}}}", "expected at most 100 letters"),
        (HEAD + f"intents: {{{'a' * 300}: {{half_life_days: 1, full_at: 1, signals: [{{event: A}}]}}}}", "expected at most 100 letters"),
        (WELCOME + f", steps: [{{day: 1, channel: x, content: {'a' * 600}}}]}}", "expected at most 500 letters"),
        (HEAD + f"? {'a' * 100_000}\n: 1", "unknown key '" + "a" * 60 + "... (100,000 letters)'"),
        (HEAD + "segments: {'../../etc': 'true'}", ":3: segment '../../etc': expected a name of small letters, digits and _"),
        (HEAD.replace("UTC", "../../etc/passwd"), ":2: field 'calendar.timezone': unknown time zone '../../etc/passwd'"),
        (HEAD.replace("UTC", "a" * 400), ":2: field 'calendar.timezone': unknown time zone '"),
        # numbers
        (
            WELCOME + f", priority: {'9' * 5000}}}",
            ":4: journey 1, field 'priority': the number " + "9" * 60 + "... (5,000 letters) is too large",
        ),
        (WELCOME.replace("7,", f"{10**18},") + "}", "field 'length_days': expected at most 36500, found 1000000000000000000"),
        (WELCOME + ", priority: 1e999}", ":4: journey 'welcome', field 'priority': expected a number, found inf"),
        (WELCOME + f", priority: 0.{'1' * 5000}}}", ":4: journey 'welcome', field 'priority': expected a number, found '0."),
        (WELCOME + ", priority: .inf}", ":4: journey 'welcome', field 'priority': expected a number, found inf"),
        (HEAD + "policy: {keep_candidates: 9999999999999999999}", ":3: field 'policy.keep_candidates': expected at most 1e+09"),
        (HEAD + f"policy: {{rest_days: 0x{'f' * 5000}}}", "is too large"),
        (HEAD.replace('"1"', ".nan"), ":1: field 'version': expected text, found nan: put it in quotes"),
        (HEAD.replace('"1"', "[1]"), ":1: field 'version': expected text, found a list"),
        (HEAD.replace('"1"', "on") + "policy: {holdout: on}", ":3: field 'policy.holdout': expected a number, found 'on'"),
        # days
        (
            HEAD.replace("2026-01-01", "0001-01-01"),
            "field 'calendar.starts_on': expected a day from 2000-01-01 to 2199-12-31, found 0001-01-01",
        ),
        (
            HEAD.replace("2026-01-01", "2026-01-01, ends_on: 9999-12-31"),
            "'calendar.ends_on': expected a day from 2000-01-01 to 2199-12-31, found 9999-12-31",
        ),
        (WELCOME + ", ends_on: 9999-12-31}", "field 'ends_on': expected a day from 2000-01-01 to 2199-12-31, found 9999-12-31"),
        (
            WELCOME + ", suppress: [{from: 0001-01-01, to: 9999-12-31}]}",
            "field 'suppress.from': expected a day from 2000-01-01 to 2199-12-31, found 0001-01-01",
        ),
        (HEAD + f"traits: {{x: {{count: A, within_days: {10**18}}}}}", "field 'within_days': expected at most 36500"),
        (HEAD.replace("2026-01-01", "2026-13-45"), "field 'calendar.starts_on': expected a day such as 2026-12-24, found '2026-13-45'"),
        (HEAD.replace("2026-01-01", "1_000"), "field 'calendar.starts_on': expected a day such as 2026-12-24, found 1000"),
        # expressions
        (segment("(" * DEEP + "true" + ")" * DEEP), ":4: segment 's': more than 9 brackets (or cases) inside each other"),
        (
            segment("abs(" * DEEP + "tenure_days" + ")" * DEEP + " > 1"),
            ":4: segment 's': more than 9 brackets (or cases) inside each other",
        ),
        (segment(" or ".join(f"1 = {n}" for n in range(LONG))), ":4: segment 's': it has more than 2,000 parts"),
        (segment(" and ".join(["1 < 2"] * LONG)), ":4: segment 's': it has more than 2,000 parts"),
        (segment(" + ".join(["tenure_days"] * LONG) + " > 1"), ":4: segment 's': it calculates in more than 100 steps"),
        (segment(" * ".join(["tenure_days"] * LONG) + " > 1"), ":4: segment 's': it calculates in more than 100 steps"),
        (
            segment("case 1 " + "".join(f"when {n} then 1 " for n in range(LONG)) + "end > 1"),
            ":4: segment 's': it calculates in more than 100 steps (+, -, *, /, % and 'when')",
        ),
        (segment("least(" + ", ".join(["tenure_days"] * LONG) + ") > 1"), ":4: segment 's': "),
        (segment(f"tenure_days > {'9' * 5000}"), ":4: segment 's': the number " + "9" * 60 + "... (5,000 letters) is too large"),
        (segment(f"tenure_days > 1e{'9' * 5000}"), "is too large"),
        (segment(f"timezone like '{'_%' * 20_000}'"), "is too long"),
        (segment(f"timezone = '{'a' * 60_000}'"), ":4: segment 's': it is 60,013 letters long, and an expression has at most 50,000"),
        (segment("a" * 40_000), ":4: segment 's': unknown column '" + "a" * 60 + "... (40,000 letters)'"),
        (
            segment("case " * 8 + "1" + " when 1 then 1 when 2 then 2 when 3 then 3 when 4 then 4 when 5 then 5 end" * 8 + " > 1"),
            "more than",
        ),
        (
            HEAD + f"traits: {{x: {{count: A, where: '{' or '.join(f'a{n} = a{n + 1}' for n in range(LONG))}'}}}}",
            "it has more than 2,000 parts",
        ),
    ],
)
def test_a_hostile_file_is_refused_at_once(tmp_path: Path, text: str, message: str) -> None:
    """Each names its limit, and none takes more than a second or much memory."""
    path = tmp_path / "journeys.yaml"
    path.write_text(text, encoding="utf-8")

    told = refusal(path)

    assert message in told
    assert told.startswith("journeys.yaml")


@pytest.mark.parametrize(
    "text",
    [
        segment(" or ".join(f"tenure_days = {n}" for n in range(900))),
        segment("tenure_days in (" + ", ".join(map(str, range(LONG))) + ")"),
        segment("not " * LONG + "true"),
        segment(" + ".join(["tenure_days"] * 100) + " > 1"),
        HEAD + f"traits: {{x: {{count: A, where: '{' or '.join(f'a{n} = a{n + 1}' for n in range(900))}'}}}}",
        HEAD + "segments: {a: &late 'tenure_days > 9', b: *late}",
        HEAD.replace('"1"', f"{'a' * 500}"),
        WELCOME + ", priority: 1_000, value: 0x10, description: 'שלום \U0001f469\u200d\U0001f469 \\u202e'}",
    ],
)
def test_what_is_merely_large_loads_at_once(tmp_path: Path, text: str) -> None:
    """Limits are where people are not."""
    path = tmp_path / "journeys.yaml"
    path.write_text(text, encoding="utf-8")
    before = time.process_time()

    assert load_portfolio(path)
    assert time.process_time() - before < SECONDS


def test_what_is_no_portfolio_file_is_said_to_be_none(tmp_path: Path) -> None:
    """A folder, a pipe, 100 MB, UTF-16, NUL bytes: one line each."""
    path = tmp_path / "journeys.yaml"
    assert refusal(tmp_path) == f"{tmp_path}: is no file: expected the portfolio, such as journeys.yaml"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == f"{tmp_path / 'pipe'}: is no file: expected the portfolio, such as journeys.yaml"
    assert "cannot be read: " in refusal(tmp_path / ("a" * 300))
    assert "cannot be read: " in refusal(tmp_path / "a\0b")
    with path.open("wb") as file:
        file.truncate(100_000_000)
    assert refusal(path) == "journeys.yaml: is larger than 8 MB: expected a portfolio, which is far smaller"
    path.write_bytes(HEAD.encode("utf-16"))
    assert refusal(path) == "journeys.yaml: is UTF-16 text: save it as UTF-8"
    path.write_bytes(HEAD.encode() + b"\0")
    assert refusal(path) == "journeys.yaml:3: the character U+0000 is not seen and changes what is: remove it"
    path.write_bytes(HEAD.encode() + b"\n# \xe9")
    assert refusal(path) == "journeys.yaml:4: is not UTF-8 text (byte 65): save it as UTF-8"
    path.write_bytes(b"")
    assert refusal(path) == "journeys.yaml: field 'version': is missing\njourneys.yaml: field 'calendar': is missing"
