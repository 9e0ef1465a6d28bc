"""What editors know of ``journeys.yaml``: the JSON schema that completes keys and marks mistakes while somebody writes.

What belongs here: the schema as a file. What does not: the grammar (``document``).
"""

import json
import sys

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from atc_pipeline.journeys.document import (
    JourneysDocument,
)


class _Schema(GenerateJsonSchema):
    """What editors need: descriptions instead of titles, optional keys that are absent rather than null, names that are checked."""

    def field_title_should_be_set(self, _schema: object) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        written = super().default_schema(schema)
        return {key: value for key, value in written.items() if key != "default" or value not in (None, [], {})}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        return {**super().dict_schema(schema), "additionalProperties": False}


def json_schema() -> str:
    """Return the JSON Schema of ``journeys.yaml`` as text, for editors to complete and check from."""
    schema = JourneysDocument.model_json_schema(schema_generator=_Schema)
    return json.dumps({"$schema": _Schema.schema_dialect, **schema}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema())  # make schema
