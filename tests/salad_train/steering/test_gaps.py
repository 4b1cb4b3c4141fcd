"""The gaps of a report as they steer."""

from __future__ import annotations

import dataclasses
import math

import pytest

from salad_eval.errors import DataError, UserInputError
from salad_train.steering.gaps import domain_gaps, largest_gap
from tests.helpers.selection_world import gap_report


def test_gaps_are_shrunken_where_they_are_and_in_the_reports_order() -> None:
    report = gap_report({"sport": 0.4, "music": -0.1, "art": 0.2})
    small = dataclasses.replace(report.domains[0], shrunk_gap=0.25)
    plain = dataclasses.replace(report.domains[1], shrunk_gap=None)
    report = dataclasses.replace(report, domains=(small, plain, report.domains[2]))
    assert list(domain_gaps(report).items()) == [("sport", 0.25), ("music", -0.1), ("art", 0.2)]


def test_a_report_that_cannot_steer_says_so() -> None:
    with pytest.raises(UserInputError, match="no gaps by domain"):
        domain_gaps(gap_report({}))
    with pytest.raises(DataError, match="the gap of domain 'art' is nan"):
        domain_gaps(gap_report({"art": math.nan}, shrunk=False))


def test_where_nothing_is_to_close_the_message_says_what_else_to_do() -> None:
    assert largest_gap({"art": -0.1, "music": 0.2}, "Rest.") == 0.2
    with pytest.raises(UserInputError, match=r"largest is 'music' with -1\.0 points.*nothing to close\. Rest\."):
        largest_gap({"art": -0.1, "music": -0.01}, "Rest.")
