"""A hub that cannot be reached is not waited for."""

from __future__ import annotations

import socket

import pytest

from salad_eval.benchmarks.hub import offline_if_unreachable


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever is set meanwhile
        monkeypatch.delenv(name)


def test_an_open_port_is_a_hub_and_a_closed_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        offline_if_unreachable()
        assert not os.environ.get("HF_HUB_OFFLINE")
    offline_if_unreachable()
    assert os.environ.get("HF_HUB_OFFLINE") == "1"


def test_behind_a_proxy_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    offline_if_unreachable()
    assert not os.environ.get("HF_HUB_OFFLINE")
