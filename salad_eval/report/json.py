"""The gap report as JSON and back, checked against ``reports/gap_report.schema.json`` on the way out and on the way in.

The file's shape is the record's, but for three places that read better for people: a domain row is named by ``domain``,
``overall`` has no name, and a slice row or a cell of the grid is flat, named by ``field`` and ``value``, or ``voice`` and ``condition``.
Floats round-trip exactly. A report of an older schema is read as one of this: what it does not say is empty. What the columns cost
lies beside it, in ``costs.json``.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from salad_eval.errors import DataError
from salad_eval.gap.report import CONDITION, SCHEMA_VERSION
from salad_eval.gap.row import OVERALL
from salad_eval.records import Json, from_json, loads, parse_json, to_json, write_atomic, write_json
from salad_eval.resources import reports_dir
from salad_eval.types import Costs, GapReport

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

REPORT_FILE = "gap_report.json"
COSTS_FILE = "costs.json"
READ_VERSIONS = ("1.0", "1.1", "1.2", SCHEMA_VERSION)
SCHEMA_FILE = "gap_report.schema.json"
_SHOWN = 120  # characters of an offending value that an error message quotes

JsonObject = dict[str, Json]


def report_to_json(report: GapReport) -> JsonObject:
    """The report as JSON values, valid under the schema. Raises ``DataError`` where it is not."""
    data = _without(_object(to_json(report)), "folder", "costs")
    data["overall"] = _without(_object(data["overall"]), "name")
    data["domains"] = _named_by(data["domains"], "domain")
    data["slices"] = [
        {"field": part["field"], "value": row["name"], **_without(row, "name")}
        for part in _objects(data["slices"])
        for row in [_object(part["row"])]
    ]
    data["by_condition"] = [
        {
            "condition": rows["condition"],
            "overall": _without(_object(rows["overall"]), "name"),
            "domains": _named_by(rows["domains"], "domain"),
            **({"tasks": _named_by(rows["tasks"], "task")} if rows["tasks"] else {}),
        }
        for rows in _objects(data["by_condition"])
    ]
    data["grid"] = [
        {
            **_without(cell, "row", "from_clean"),
            **_without(_object(cell["row"]), "name"),
            "from_clean": cell["from_clean"],
        }
        for cell in _objects(data["grid"])
    ]
    validate(data, "report")
    return data


def _named_by(rows: Json, kind: str) -> Json:
    return [{kind: row["name"], **_without(row, "name")} for row in _objects(rows)]


def report_from_json(data: object, where: str = "report") -> GapReport:
    """The report that parsed JSON describes; ``where`` names its origin in the ``DataError`` for anything malformed."""
    validate(data, where)
    fields = dict(_object(cast(Json, data)))
    fields["schema_version"] = SCHEMA_VERSION
    fields["overall"] = {"name": OVERALL, **_object(fields["overall"])}
    fields["domains"] = _named(fields["domains"], "domain")
    fields["slices"] = [
        {
            "field": CONDITION[0] if row["field"] in CONDITION else row["field"],
            "row": {"name": row["value"], **_without(row, "field", "value")},
        }
        for row in _objects(fields["slices"])
    ]
    fields["by_condition"] = [
        {
            **rows,
            "overall": {"name": OVERALL, **_object(rows["overall"])},
            "domains": _named(rows["domains"], "domain"),
            "tasks": _named(rows.get("tasks", []), "task"),
        }
        for rows in _objects(fields.get("by_condition", []))
    ]
    fields["grid"] = [
        {
            "voice": cell["voice"],
            "condition": cell["condition"],
            "row": {
                "name": f"{cell['voice']}, {cell['condition']}",
                **_without(cell, "voice", "condition", "from_clean"),
            },
            "from_clean": cell["from_clean"],
        }
        for cell in _objects(fields.get("grid", []))
    ]
    return from_json(GapReport, fields)


def _named(rows: Json, kind: str) -> Json:
    return [{"name": row[kind], **_without(row, kind)} for row in _objects(rows)]


def validate(data: object, where: str) -> None:
    """Raises ``DataError`` naming the field, its value and what was expected, for JSON that the schema does not
    allow."""
    from jsonschema.exceptions import best_match

    if isinstance(data, dict) and "schema_version" in data and data["schema_version"] not in READ_VERSIONS:
        raise DataError(
            f"{where}: schema_version is {data['schema_version']!r}; expected {' or '.join(READ_VERSIONS)}. "
            "Make the report again, or read it with the version that wrote it."
        )
    if (place := _not_finite(data)) is not None:
        raise DataError(f"{where}: {place} is not a finite number; what is missing is null.")
    error = best_match(_validator().iter_errors(data))
    if error is not None:
        field = error.json_path.removeprefix("$").removeprefix(".") or "the whole file"
        raise DataError(f"{where}: {field} = {repr(error.instance)[:_SHOWN]}: {error.message[: _SHOWN * 2]}.")


def _not_finite(data: object, place: str = "") -> str | None:
    """Where JSON holds a number that is too large for a float, such as 1e999, which readers take for infinity."""
    if isinstance(data, int | float):
        try:
            finite = math.isfinite(data)
        except OverflowError:  # an integer of hundreds of digits
            finite = False
        return None if finite else place or "the whole file"
    if isinstance(data, dict):
        parts = ((f"{place}.{key}" if place else str(key), value) for key, value in data.items())
    elif isinstance(data, list):
        parts = ((f"{place}[{number}]", value) for number, value in enumerate(data))
    else:
        return None
    return next((found for name, value in parts if (found := _not_finite(value, name)) is not None), None)


@cache
def _validator() -> Validator:
    from jsonschema import Draft202012Validator

    schema = json.loads((reports_dir() / SCHEMA_FILE).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def save_report(report: GapReport, path: Path) -> None:
    """Write the report's JSON as a whole file, and what its columns cost, where that is known, beside it."""
    write_atomic(path, json.dumps(report_to_json(report), ensure_ascii=False, allow_nan=False, indent=1) + "\n")
    if report.costs is not None:
        write_json(path.with_name(COSTS_FILE), report.costs)


def load_report(path: str | os.PathLike[str]) -> GapReport:
    """Read a report from ``gap_report.json`` or from the run directory that holds it.

    Raises ``DataError`` for a missing file, one that is not JSON, another schema version, or a field the schema does
    not allow.
    """
    file = Path(path)
    if file.is_dir():
        file = file / REPORT_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{file}: no such file; expected a {REPORT_FILE} or the run directory that holds one."
        ) from None
    except (OSError, UnicodeDecodeError) as cause:
        raise DataError(f"{file}: cannot be read: {cause}.") from None
    try:
        data = parse_json(text, parse_constant=_refuse_constant)
    except ValueError as cause:
        raise DataError(f"{file}: not JSON: {cause}.") from None
    return replace(report_from_json(data, str(file)), folder=str(file.parent), costs=_costs_beside(file))


def _costs_beside(file: Path) -> Costs | None:
    costs = file.with_name(COSTS_FILE)
    if file.name != REPORT_FILE or not costs.is_file():
        return None
    try:
        return loads(Costs, costs.read_bytes(), str(costs))
    except OSError as cause:
        raise DataError(f"{costs}: cannot be read: {cause}.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _object(value: Json) -> JsonObject:
    return cast(JsonObject, value)


def _objects(value: Json) -> list[JsonObject]:
    return cast("list[JsonObject]", value)


def _without(row: JsonObject, *keys: str) -> JsonObject:
    return {key: value for key, value in row.items() if key not in keys}
