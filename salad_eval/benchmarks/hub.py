"""Whether a model hub can be reached, asked once and briefly: its own clients try for half a minute."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

DEFAULT_HUB = "https://huggingface.co"
TIMEOUT_SECONDS = 2.0
_OFFLINE = "HF_HUB_OFFLINE"


def offline_if_unreachable() -> None:
    """Tell the hub's clients not to try where no connection can be made; what they have cached is found all the same.

    To be called before they are imported. Behind a proxy nothing is known, and nothing changed.
    """
    if os.environ.get(_OFFLINE) or any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return
    address = urlsplit(os.environ.get("HF_ENDPOINT") or DEFAULT_HUB)
    try:
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=TIMEOUT_SECONDS):
            return
    except OSError:
        os.environ[_OFFLINE] = "1"
