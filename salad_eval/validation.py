"""What a user wrote against a typed model: every fault as one sentence that names the key, the value and what was expected."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from salad_eval.errors import UserInputError, did_you_mean

M = TypeVar("M", bound=BaseModel)
MOST_FAULTS = 5


def parse(model: type[M], data: object, where: str, error: type[UserInputError] = UserInputError) -> M:
    """``data`` (parsed YAML or keyword arguments) as a ``model``; raises ``error`` listing what is wrong in ``where``."""
    if not isinstance(data, Mapping):
        raise error(f"{where}: expected a mapping of keys to values, got {_show(data)}.")
    try:
        return model.model_validate(dict(data))
    except ValidationError as cause:
        faults = [_sentence(fault, model) for fault in cause.errors(include_url=False)]
        more = [f"and {len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
        raise error(f"{where}: {'; '.join([*faults[:MOST_FAULTS], *more])}.") from None


def _sentence(fault: Any, model: type[BaseModel]) -> str:
    path = tuple(step for step in fault["loc"] if not _is_union_tag(step))
    key = ".".join(str(step) for step in path)
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return f"unknown key {key!r}{did_you_mean(str(path[-1]), known)} (known: {', '.join(known)})"
    if fault["type"] == "missing":
        return f"the key {key!r} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key} is {_show(fault['input'])}: {message[:1].lower()}{message[1:]}"


def _is_union_tag(step: int | str) -> bool:
    # pydantic puts the member of a union it tried into the path: 'str', 'dict[str,str]', 'DomainMap', 'literal[...]'.
    return isinstance(step, str) and (step in _TAGS or "[" in step or step[:1].isupper())


_TAGS = ("str", "int", "float", "bool", "list", "dict", "none")


def _keys_at(model: type[BaseModel], path: Sequence[int | str]) -> tuple[str, ...]:
    """The keys that are known where ``path`` leads, following nested models."""
    here: type[BaseModel] = model
    for step in path:
        field = here.model_fields.get(str(step))
        if field is not None:
            here = _nested(field.annotation) or here
    return tuple(here.model_fields)


def _nested(annotation: Any) -> type[BaseModel] | None:
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, BaseModel)
    ):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _nested(part))), None)


def _show(value: object) -> str:
    return f"{value!r:.80}"
