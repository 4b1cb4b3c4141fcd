"""What the LM reads of an adapter that was taught by CTC: words without blanks, in the order and number that CTC writes them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from salad_train.model.loading import load_salad
from salad_train.model.readout import CtcReadout, written
from salad_train.training.warm_start import collapsed
from tests.helpers import speech_llm_world as world

IDS = [5, 9, 7]


def scores_of(rows: list[list[int]], symbols: int = 4) -> torch.Tensor:
    """Log-probabilities whose best symbol at each position is the one stated."""
    one_hot = torch.nn.functional.one_hot(torch.tensor(rows), symbols).float()
    return (one_hot * 9).log_softmax(-1)


@pytest.mark.parametrize(
    ("best", "length", "read"),
    [
        ([0, 3, 3, 0, 3, 2], 6, [1, 4, 5]),
        ([2, 2, 1, 0, 0, 0], 6, [0, 2]),
        ([0, 1, 0, 3, 3, 3], 3, [1]),
        ([1, 2, 1, 2, 1, 2], 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_blanks_repeats_and_padding_are_left_out(best: list[int], length: int, read: list[int]) -> None:
    assert written(scores_of([best]), torch.tensor([length]))[0].nonzero().flatten().tolist() == read


def test_of_a_recording_of_blanks_the_least_blank_position_is_read() -> None:
    scores = torch.tensor([[[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.5, 0.5]]]).log()
    assert written(scores, torch.tensor([3])).tolist() == [[False, True, False, False]]


def test_the_lm_reads_its_own_embeddings_of_what_is_written() -> None:
    embeddings = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
    readout = CtcReadout.fresh(embeddings, IDS, seed=0)
    with torch.no_grad():
        readout.log_scale.fill_(6.0)
    token = torch.nn.functional.normalize(embeddings[IDS], dim=1)
    blank = readout.blank.detach()
    heard = torch.stack([blank, token[0], token[0], blank, token[2], blank])[None]
    rows, counts = readout(heard, torch.tensor([6]), embeddings)
    assert counts.tolist() == [2]
    assert torch.allclose(rows[0], embeddings[[5, 7]], atol=1e-3)


def paths_to(said: list[int], positions: int, symbols: int) -> list[tuple[int, ...]]:
    """An oracle: all rows of symbols that read as ``said`` (places from 1)."""
    return [path for path in itertools.product(range(symbols), repeat=positions) if collapsed(path) == said]


def test_what_ctc_misses_is_the_share_of_all_ways_to_write_it() -> None:
    embeddings = torch.randn(12, 6, generator=torch.Generator().manual_seed(2))
    readout = CtcReadout.fresh(embeddings, IDS, seed=1)
    heard = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([4, 3])
    nats, n = readout.nll(heard, lengths, embeddings, [(9, 7), (5,)])
    scores = readout.scores(heard, embeddings).detach()
    expected = 0.0
    for row, length, places in ((scores[0], 4, [2, 3]), (scores[1], 3, [1])):
        ways = [float(row[range(length), path].sum()) for path in paths_to(places, length, len(IDS) + 1)]
        expected -= math.log(math.fsum(map(math.exp, ways)))
    assert n == 3
    assert float(nats.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_recording_that_cannot_be_written_is_left_out_of_it() -> None:
    embeddings = torch.randn(12, 6, generator=torch.Generator().manual_seed(2))
    readout = CtcReadout.fresh(embeddings, IDS, seed=1)
    heard = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(3), requires_grad=True)
    lengths = torch.tensor([2, 2, 1, 2])
    unknown, alike, no_room, alone = (5, 4), (5, 5), (5, 7), (9,)
    nats, n = readout.nll(heard, lengths, embeddings, [unknown, alike, no_room, alone])
    nats.backward()
    assert n == 1
    assert heard.grad is not None
    assert [bool(row.any()) for row in heard.grad] == [False, False, False, True]
    nothing, n = readout.nll(heard, lengths, embeddings, [unknown, alike, no_room, ()])
    assert (float(nothing.detach()), n) == (0.0, 0)


# --- within a model --------------------------------------------------------------------------------------------------


def reading_model(seed: int = 0) -> tuple[Any, Any]:
    """A speech LLM whose LM reads by CTC over 40 tokens; of random weights, so that it writes at some positions and not at others."""
    model, processor = world.speech_llm("llama", "parakeet", 1, seed)
    embeddings = model.get_input_embeddings().weight.detach()
    model.read_by(CtcReadout.fresh(embeddings, list(range(3, 43)), seed=seed))
    return model.eval(), processor


def heard(processor: Any, *texts: str) -> Any:
    return processor(
        text=[f"so {processor.audio_token} is" for _ in texts],
        audio=[world.sound(text, rate=processor.sampling_rate).samples for text in texts],
    )


@torch.no_grad()
def packed_logits(model: Any, batch: Any) -> list[torch.Tensor]:
    """An oracle: what the LM says of the texts around a recording and of what was read of it, joined by hand."""
    rows, counts = model.get_audio_features(batch["input_features"], batch["input_features_mask"])
    found = []
    for ids, mask, heard_rows, n in zip(
        batch["input_ids"], batch["attention_mask"], rows, counts.tolist(), strict=True
    ):
        places = (ids == model.config.audio_token_id).nonzero().flatten()
        table = model.get_input_embeddings()
        after = ids[places[-1] + 1 :][mask[places[-1] + 1 :] > 0]
        joined = torch.cat([table(ids[: places[0]]), heard_rows[:n], table(after)])
        found.append(model.language_model(inputs_embeds=joined[None]).logits[0])
    return found


def test_what_is_left_out_takes_no_place_in_the_lm() -> None:
    model, processor = reading_model()
    batch = heard(processor, "gold", "a long walk home in the rain without a coat")
    rows, counts = model.get_audio_features(batch["input_features"], batch["input_features_mask"])
    places = (batch["input_ids"] == model.config.audio_token_id).sum(1)
    assert rows.shape[1] == counts.max()
    assert bool((counts < places).any())  # else the test shows nothing
    with torch.no_grad():
        placed = model.embed(**{k: batch[k] for k in ("input_ids", "input_features", "input_features_mask")})
        hidden = model.language_model.lm_head(model.hidden_states(placed))
        whole = model(**batch).logits
    for row, (expected, mask) in enumerate(zip(packed_logits(model, batch), batch["attention_mask"], strict=True)):
        end = int(mask.sum())
        assert torch.allclose(hidden[row, end - 1], expected[-1], atol=1e-4)
        assert torch.allclose(whole[row, end - 1], expected[-1], atol=1e-4)


def test_it_generates_from_what_it_reads() -> None:
    model, processor = reading_model()
    batch = heard(processor, "seven plus four")
    said = model.generate(**batch, max_new_tokens=3, do_sample=False, min_new_tokens=3)
    logits = packed_logits(model, batch)[0]
    assert int(said[0, -3]) == int(logits[-1].argmax())


def test_a_saved_one_reads_the_same(tmp_path: Path) -> None:
    model, processor = reading_model()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, _ = load_salad(str(tmp_path))
    assert again.config.ctc_tokens == 40
    batch = heard(processor, "gold")
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, again(**batch).logits, atol=1e-5)
