"""From a report or a selection to the weight of a domain or a cluster."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from salad_eval.errors import DataError, UserInputError
from salad_eval.types import GapReport
from salad_train.steering.gaps import domain_gaps, largest_gap
from salad_train.types import Selection

GAMMA = 1.0
FLOOR = 0.05
OTHERS = "(others)"  # the group of examples that report and selection know nothing of
SELECTION_FILE = "selection.jsonl"


def domain_weights(
    report: GapReport,
    domains: Sequence[str] | None = None,
    *,
    gamma: float = GAMMA,
    floor: float = FLOOR,
    allow_test_split: bool = False,
) -> dict[str, float]:
    """Weight of one example of each domain: max((max(gap, 0) / largest gap) ^ gamma, floor), in [floor, 1].

    After P_target ∝ P_web · s^γ (Cuervo et al., arXiv 2510.13632): the data's own shares are P_web, since a weight is an
    example's. Gaps are the shrunken ones where the report has them. ``floor`` keeps what is understood now from being
    forgotten unseen: an example of a domain without a gap is drawn ``floor`` times as often as one of the widest gap.

    Args:
        domains: those that matter (all of the report's by default); the largest gap is taken among them.

    Raises ``UserInputError`` for a report on a test split that is not allowed by name, one without domains, and where no gap is
    above 0; ``DataError`` where a gap is not a number.
    """
    check_split(report, allow_test_split)
    known = domain_gaps(report)
    gaps = known if domains is None else {name: known[name] for name in sorted(set(domains))}
    largest = largest_gap(gaps, "Use a plain shuffle.")
    return {name: max((max(gap, 0.0) / largest) ** gamma, floor) for name, gap in gaps.items()}


def check_split(report: GapReport, allow_test_split: bool) -> None:
    """What steers training must not be what its result is measured on."""
    if report.split == "test" and not allow_test_split:
        raise UserInputError(
            "the report is of the test split: to train by it would be to look at the answers. Take a report of the validation "
            "split, or say allow_test_split=True."
        )


def cluster_weights(selection: Selection, ids: Sequence[str]) -> tuple[list[str], dict[str, float]]:
    """The group of every example (its cluster, or ``OTHERS``), and the weight of one example of each cluster; the largest is 1.

    An example weighs its cluster's target share over the number of examples of that cluster: the data's clusters are then read in the
    shares that were aimed at, whatever the draw and the synthesis made of them.
    """
    if not selection.documents:
        raise UserInputError("the selection has no documents. Select again with a larger budget.")
    names = {chosen.document.id: f"cluster {chosen.cluster}" for chosen in selection.documents}
    shares = {f"cluster {chosen.cluster}": chosen.weight for chosen in selection.documents}
    for name, share in shares.items():
        if not (math.isfinite(share) and share > 0):
            raise DataError(f"the documents of {name} have weight {share}; expected a share above 0. Select again.")
    groups = [names.get(example, OTHERS) for example in ids]
    sizes = Counter(groups)
    each = {name: share / sizes[name] for name, share in shares.items() if sizes[name]}
    largest = max(each.values(), default=1.0)
    return groups, {name: weight / largest for name, weight in each.items()}
