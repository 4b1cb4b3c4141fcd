"""Which items and sound a page holds: links or copies, the worst inside, and nothing gated or recorded by accident."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from salad_eval.audio.sound import SoundForm
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.report import sound, write_report
from salad_eval.report.listing import PageOptions, page_items
from salad_eval.types import CLEAN, Recording
from tests.helpers.page_world import PageWorld, page_world


@pytest.fixture
def made(tmp_path: Path) -> PageWorld:
    return page_world(tmp_path)


def gated(made: PageWorld) -> PageWorld:
    protocols = tuple(replace(one, gated=one.task == "quiz") for one in made.report.protocols)
    return replace(made, report=replace(made.report, protocols=protocols))


def recorded(made: PageWorld) -> PageWorld:
    spoken = Recording("context", "ann", CLEAN, None, "a.wav")
    items = [replace(item, recordings=(spoken,)) if item.domain == "songs" else item for item in made.records.items]
    return replace(made, records=replace(made.records, items=items))


def test_sound_lies_beside_as_links_that_take_no_space(made: PageWorld, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = page_items(made.report, made.records, made.store, out)
    assert found is not None
    assert found.sound is not None
    assert found.sound.form == "wav"
    files = sorted((out / "sound").iterdir())
    assert len(files) == len({rendering.sha256 for rendering in made.records.renderings})
    stored = made.store.path(made.records.renderings[0].sha256)
    assert os.path.samefile(out / "sound" / f"{stored.stem[:12]}.wav", stored)
    again = page_items(made.report, made.records, made.store, out)
    assert again is not None
    assert again.sound == found.sound


def test_where_links_cannot_be_made_sound_is_flac_to_the_sample(
    made: PageWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("another device")

    monkeypatch.setattr(os, "link", refused)
    found = page_items(made.report, made.records, made.store, tmp_path / "out")
    assert found is not None
    assert found.sound is not None
    assert found.sound.form == "flac"
    sha256 = made.records.renderings[0].sha256
    samples, rate = soundfile.read(tmp_path / "out" / "sound" / f"{sha256[:12]}.flac", dtype="float32")
    assert rate == made.store.get(sha256).sample_rate_hz
    assert (samples == made.store.get(sha256).samples).all()


@pytest.mark.parametrize("form", get_args(SoundForm))
@pytest.mark.parametrize("links", [True, False])
def test_the_form_that_is_asked_for_is_what_lies_beside(
    made: PageWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: SoundForm, links: bool
) -> None:
    def refused(*_: object) -> None:
        raise OSError("another device")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    found = page_items(made.report, made.records, made.store, tmp_path / "out", PageOptions(audio_format=form))
    assert found is not None
    assert found.sound is not None
    assert found.sound.form == form
    files = sorted((tmp_path / "out" / "sound").iterdir())
    assert len(files) == len(found.sound.beside) > 100
    sha256 = made.records.renderings[0].sha256
    file = tmp_path / "out" / "sound" / f"{sha256[:12]}.{form}"
    assert os.path.samefile(file, made.store.path(sha256)) == (form == "wav" and links)
    samples, rate = soundfile.read(file, dtype="float32")
    stored = made.store.get(sha256)
    assert (rate, len(samples)) == (stored.sample_rate_hz, len(stored.samples))
    assert np.corrcoef(samples, stored.samples)[0, 1] > 0.97
    assert (samples == stored.samples).all() == (form != "opus")


@pytest.mark.parametrize("form", get_args(SoundForm))
def test_the_form_that_is_asked_for_is_what_is_embedded(made: PageWorld, tmp_path: Path, form: SoundForm) -> None:
    found = page_items(made.report, made.records, made.store, tmp_path, PageOptions(embed_audio=2, audio_format=form))
    assert found is not None
    assert found.sound is not None
    assert found.sound.form == form
    beginnings = {base64.b64decode(content)[:4] for content in found.sound.inside.values()}
    assert beginnings == {{"wav": b"RIFF", "flac": b"fLaC", "opus": b"OggS"}[form]}


def test_the_worst_by_ear_are_embedded(made: PageWorld, tmp_path: Path) -> None:
    found = page_items(made.report, made.records, made.store, tmp_path / "out", PageOptions(embed_audio=2))
    assert found is not None
    assert found.sound is not None
    assert not (tmp_path / "out").exists()
    assert len(found.sound.inside) == 2
    margins = {row.parts[0].sha256: row.answers["adapted_speech"].margin or 0.0 for row in found.rows}
    lowest = sorted(margins, key=lambda sha256: margins[sha256])[:2]
    assert set(found.sound.inside) == {sha256[: found.sound.digits] for sha256 in lowest}
    data, _ = soundfile.read(io.BytesIO(base64.b64decode(found.sound.inside[lowest[0][:12]])), dtype="float32")
    assert (data == made.store.get(lowest[0]).samples).all()


@pytest.mark.parametrize(
    ("options", "n_items", "with_sound", "said"),
    [
        (PageOptions(), 24, True, "The items of quiz are held back"),
        (PageOptions(items=True), 48, True, ""),
        (PageOptions(audio=False), 24, False, "The items of quiz are held back"),
        (PageOptions(items=True, audio=False), 48, False, ""),
    ],
)
def test_items_of_a_gated_task_are_held_back(
    made: PageWorld, tmp_path: Path, options: PageOptions, n_items: int, with_sound: bool, said: str
) -> None:
    world = gated(made)
    found = page_items(world.report, world.records, world.store, tmp_path / "out", options)
    assert found is not None
    assert len({row.item.id for row in found.rows}) == n_items
    assert (found.sound is not None) == with_sound == (tmp_path / "out" / "sound").exists()
    assert said in found.held_back
    assert bool(said) == bool(found.held_back)


def test_a_page_of_gated_tasks_alone_says_so(made: PageWorld, tmp_path: Path) -> None:
    report = replace(made.report, protocols=tuple(replace(one, gated=True) for one in made.report.protocols))
    files = write_report(report, tmp_path / "out", made.records, store=made.store)
    page = files.html.read_text(encoding="utf-8")
    assert "The items of quiz, trivia are held back" in page
    assert "item-data" not in page
    assert not (tmp_path / "out" / "sound").exists()


def test_the_sound_of_recordings_is_held_back(made: PageWorld, tmp_path: Path) -> None:
    world = recorded(made)
    found = page_items(world.report, world.records, world.store, tmp_path / "out")
    assert found is not None
    assert found.sound is not None
    assert "The sound of recordings is held back" in found.held_back
    kept = {part.sha256 for row in found.rows if row.item.domain != "songs" for part in row.parts}
    assert found.sound.beside == kept
    assert not any(
        found.sound.key(part.sha256).strip(b"\0")
        for row in found.rows
        if row.item.domain == "songs"
        for part in row.parts
    )
    asked = page_items(world.report, world.records, world.store, tmp_path / "all", PageOptions(audio=True))
    assert asked is not None
    assert asked.sound is not None
    assert len(asked.sound.beside) > len(kept)
    assert not asked.held_back


def test_no_items_means_none(made: PageWorld, tmp_path: Path) -> None:
    assert page_items(made.report, made.records, made.store, tmp_path, PageOptions(items=False)) is None


def test_sound_that_is_gone_is_left_out(made: PageWorld, tmp_path: Path) -> None:
    gone = made.records.renderings[0].sha256
    made.store.path(gone).unlink()
    found = page_items(made.report, made.records, made.store, tmp_path / "out")
    assert found is not None
    assert found.sound is not None
    assert gone not in found.sound.beside


def test_names_are_as_long_as_it_takes_to_tell_sounds_apart() -> None:
    assert sound.digits_that_differ(["a" * 64, "b" * 64]) == 12
    assert sound.digits_that_differ(["a" * 64, "a" * 12 + "b" * 52]) == 14
    assert sound.digits_that_differ(["a" * 64, "a" * 64]) == 12


def test_a_form_of_sound_that_is_none_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="mp3"):
        PageOptions(audio_format="mp3")  # type: ignore[arg-type]


def test_a_number_of_sounds_below_0_is_refused() -> None:
    with pytest.raises(UserInputError, match="embed_audio is -1"):
        PageOptions(embed_audio=-1)
