"""Values that the whole grammar of ``journeys.yaml`` is made of: models that name the key that was probably meant, names, texts, days.

What belongs here: what one value may be, wherever it stands. What does not: which keys there are (``document``, ``wording``).
"""

import re
from collections.abc import Mapping
from datetime import date, time
from functools import cache
from typing import Annotated

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Model(BaseModel):
    """A part of the file: keys that are not in the grammar are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: object) -> object:
        """Do what ``extra="forbid"`` does, but name the key that was probably meant."""
        if isinstance(data, dict):
            valid = _keys(cls)
            for key in data:
                if key not in valid:
                    raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "valid": valid})
        return data


@cache
def _keys(model: type[BaseModel]) -> Mapping[str, None]:
    return {field.alias or name: None for name, field in model.model_fields.items()}


def _list_of(value: object) -> object:
    return [value] if isinstance(value, str) else value


listed = BeforeValidator(_list_of)
"""A single text stands for a list of it."""


def _day(value: object) -> object:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


# Events before 2000 come from clocks never set; a century after the last day is still a day.
FIRST, LAST = date(2000, 1, 1), date(2199, 12, 31)


def _hour(value: object) -> object:
    try:
        return time.fromisoformat(value) if isinstance(value, str) and _CLOCK.fullmatch(value) else value
    except ValueError:
        return value


_CLOCK = re.compile(r"\d\d:\d\d")


def _within_reason(day: date) -> date:
    if not FIRST <= day <= LAST:
        raise PydanticCustomError("day_out_of_range", "out of range")
    return day


def _expression(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_NAME_LETTERS = 100  # they become names of columns and files, and a file has 255
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$", max_length=_NAME_LETTERS)]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=_NAME_LETTERS)]
JourneyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$", max_length=_NAME_LETTERS)]
ContentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$", max_length=_NAME_LETTERS)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Expression = Annotated[str, StringConstraints(min_length=1)]  # the dialect says how long
EventName = Annotated[str, StringConstraints(pattern=r"^[^*]", max_length=500)]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), Field(le=1_000_000_000)]
Days = Annotated[int, Strict(), Field(ge=1, le=36_500)]  # a century; much more, and there is no such day
Number = Annotated[float, Strict(), AllowInfNan(allow_inf_nan=False)]
Share = Annotated[float, Strict(), Field(ge=0, lt=1)]
Day = Annotated[date, Strict(), BeforeValidator(_day), AfterValidator(_within_reason)]
Clock = Annotated[time, Strict(), BeforeValidator(_hour), WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d$"})]
Condition = Annotated[Expression, Field(examples=["tenure_days < 7 and orders = 0"])]
EventCondition = Annotated[Expression, Field(examples=["category = 'handbags'", "price >= 100"])]
NumberExpression = Annotated[
    Expression, BeforeValidator(_expression), WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "number"}]})
]
_EVENTS_SCHEMA = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}],
}
EventNames = Annotated[tuple[EventName, ...], Field(min_length=1), listed, WithJsonSchema(_EVENTS_SCHEMA)]
Events = Annotated[tuple[Text, ...], Field(min_length=1), listed, WithJsonSchema(_EVENTS_SCHEMA)]
