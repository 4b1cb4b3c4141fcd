"""Batches of like length: the one way in which texts, recordings and frames of unlike lengths are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def of_like_length(
    lengths: Sequence[float],
    limit: float,
    *,
    places: Sequence[int] | None = None,
    most: int | None = None,
    equal: bool = False,
) -> Iterator[list[int]]:
    """Places of ``lengths`` from the shortest up, so many together that, padded to the longest, they hold at most ``limit``.

    One always goes, however long it is. ``places``: these alone (by default all). ``most``: no more than so many together.
    ``equal``: only those of one length, for models in which padding changes the result. What comes together depends on the lengths
    alone, and places of one length come in their order.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)) if places is None else places, key=lambda place: (lengths[place], place)):
        full = lengths[place] * (len(batch) + 1) > limit or len(batch) == most
        if batch and (full or (equal and lengths[place] != lengths[batch[-1]])):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
