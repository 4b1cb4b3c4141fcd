"""What every page of ours is made of: one style sheet, its scripts, and a policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from salad_eval.resources import reports_dir

PAGE_SCRIPT = "page.js"


@dataclass(frozen=True, slots=True)
class PageParts:
    """Style and script as they stand in the page, and the Content-Security-Policy that names them by hash."""

    style: Markup
    script: Markup
    policy: str


def page_parts(scripts: Sequence[str] = (PAGE_SCRIPT,), *, sound: bool = False) -> PageParts:
    """The parts of a page with these scripts of ``reports/templates``. ``sound``: audio may come from beside the page or from inside it;
    nothing else is loaded by anyone, and a string never becomes markup."""
    style = _read("style.css")
    script = "".join(map(_read, scripts))
    policy = [
        "default-src 'none'",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}",
        "img-src data:",
        *(["media-src 'self' file: data:"] if sound else []),
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return PageParts(Markup(style), Markup(script), "; ".join(policy))  # ours; no text of a report is in them


def data_block(id_: str, kind: str, content: str) -> Markup:
    """Data inside a page, which a browser neither shows nor runs. ``content``: base64, or JSON, in which ``<`` is escaped."""
    return Markup('<script type="{}" id="{}">{}</script>').format(kind, id_, Markup(content.replace("<", "\\u003c")))


def _read(name: str) -> str:
    return (reports_dir() / "templates" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"
