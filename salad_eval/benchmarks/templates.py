"""lm-eval's template language, in a sandbox."""

from __future__ import annotations

from functools import cache

import jinja2
import jinja2.nodes
import jinja2.sandbox


class MissingField(Exception):
    """A template asked for a value that the row does not have."""


def _present(value: object) -> object:
    # Rows of a table have every column, with None where a row had no value; printed, it would read "None".
    if value is None:
        raise MissingField("a value that the template prints is missing (null)")
    return value


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """lm-eval's one filter of its own."""
    import re

    return re.sub(pattern, repl, string, count=count)


@cache
class _Environment(jinja2.sandbox.SandboxedEnvironment):
    def parse(self, source: str, name: str | None = None, filename: str | None = None) -> jinja2.nodes.Template:
        try:
            return super().parse(source, name, filename)
        except RecursionError:
            raise jinja2.TemplateSyntaxError("it is nested too deeply", 1) from None


def environment() -> jinja2.Environment:
    """lm-eval's template language, in a sandbox; printing a null raises ``MissingField``."""
    made = _Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=_present)
    made.filters["regex_replace"] = _regex_replace
    return made


@cache
def template(source: str) -> jinja2.Template:
    """``source`` compiled as lm-eval compiles it; see ``environment``. Raises ``TemplateSyntaxError``, of too deep a nesting too."""
    try:
        return environment().from_string(source)
    except RecursionError:
        raise jinja2.TemplateSyntaxError("it is nested too deeply", 1) from None
