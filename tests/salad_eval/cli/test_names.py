"""Names on the command line."""

from __future__ import annotations

import pytest

from salad_eval.cli.names import names_in


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, []),
        (["a"], ["a"]),
        (["a,b", "c"], ["a", "b", "c"]),
        (["clean,noise,snr=10"], ["clean", "noise,snr=10"]),
        (["en-us+m1,rate=150,pitch=60,en-us+f3"], ["en-us+m1,rate=150,pitch=60", "en-us+f3"]),
        (["a, b ,"], ["a", "b"]),
        (["noise, snr=10"], ["noise, snr=10"]),
    ],
)
def test_a_setting_stays_with_its_name(given: list[str] | None, names: list[str]) -> None:
    assert names_in(given) == names
