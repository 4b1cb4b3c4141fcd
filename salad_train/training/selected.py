"""Built-in trainers of the entry-point group ``salad.trainers``, and what all of them check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salad_eval.errors import UserInputError
from salad_train.types import Selection

if TYPE_CHECKING:
    from salad_train.training.stages import Stage2Data


def check_selected(selection: Selection, data: Stage2Data) -> None:
    """Refuse data that is not of this selection: the documents would be trained on for another reason than is stated."""
    chosen = {selected.document.id for selected in selection.documents}
    ids = [document.id for document in data.selected.documents]
    strangers = [name for name in ids if name not in chosen]
    if not ids:
        raise UserInputError(
            "there are no selected documents to train on. Run `salad select` and `salad synthesise` first."
        )
    if strangers:
        raise UserInputError(
            f"{len(strangers)} of {len(ids)} documents to be heard are not in the selection ({strangers[0]!r}, for one). "
            "Give the selection that they were spoken from."
        )
