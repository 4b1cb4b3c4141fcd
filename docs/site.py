"""Hooks of mkdocs for ``make docs``: what a page links to outside ``docs/`` is named in the site, by its path in the repository."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    depth = page.file.src_uri.count("/")
    outside = re.compile(rf"!?\[([^\]]*)\]\((?:\.\./){{{depth + 1}}}(?!\.\./)([^)\s]+)\)")
    return outside.sub(lambda link: f"{link[1]} (`{link[2]}`)", markdown)
