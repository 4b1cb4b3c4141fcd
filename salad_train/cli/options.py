"""A command's options as a frozen record: what is asked for crosses from the command line as one value."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

T = TypeVar("T")
EngineName: TypeAlias = Annotated[
    str | None, typer.Option("--engine", help="Where the work is done: local, or ray for a Ray cluster.")
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option("--address", help="Of the Ray cluster: auto, or HOST:PORT; one for this call alone if not given."),
]


def engine_keys(engine: str | None, address: str | None) -> dict[str, str | None]:
    """The recipe's keys for an engine that was named: as many speak as it has room for."""
    if engine is None and address is None:
        return {}
    named = {"engine.name": engine, "engine.address": address}
    return {"voice.workers": None, **{key: value for key, value in named.items() if value is not None}}


def with_options(record: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """A command of Typer's whose options are the fields of a dataclass, as ``Annotated`` with ``typer.Option``.

    >>> @app.command()                              # doctest: +SKIP
    ... @with_options(SelectRequest)
    ... def select_command(asked: SelectRequest) -> None: ...
    """
    hints = typing.get_type_hints(record, include_extras=True)
    fields = dataclasses.fields(typing.cast(Any, record))
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields
    ]

    def decorate(run: Callable[[T], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            run(record(**values))

        command.__name__, command.__doc__ = run.__name__, run.__doc__
        command.__annotations__ = {field.name: hints[field.name] for field in fields}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate
