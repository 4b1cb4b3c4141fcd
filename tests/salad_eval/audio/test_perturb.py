"""Perturbations: how they are written, and what each does to a sound whose answer is known."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salad_eval.audio.perturb import (
    PEAK,
    PERTURBATIONS,
    PerturbationSpec,
    active,
    canonical,
    mu_law_decode,
    mu_law_encode,
    parse_perturbation,
    perturbation,
)
from salad_eval.audio.store import AudioStore
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.pipeline.render import RenderJob, render
from salad_eval.types import CLEAN, Audio, Rendering, Transcript

RATE_HZ = 16_000
EVERY = ("clean", "noise,snr=10", "noise,snr=-5", "white,snr=10", "white,snr=-5", "telephone", "gain,db=-20")


# --- how they are written --------------------------------------------------------------------------------------------

PARSED: dict[str, tuple[str, dict[str, float], str]] = {
    "clean": ("clean", {}, "clean"),
    " clean ": ("clean", {}, "clean"),
    "noise,snr=10": ("noise", {"snr": 10.0}, "noise,snr=10"),
    "noise, snr = 10.0": ("noise", {"snr": 10.0}, "noise,snr=10"),
    "noise,snr=1e1": ("noise", {"snr": 10.0}, "noise,snr=10"),
    "noise,snr=+2.50": ("noise", {"snr": 2.5}, "noise,snr=2.5"),
    "noise,snr=-0": ("noise", {"snr": 0.0}, "noise,snr=0"),
    "noise,snr=-20": ("noise", {"snr": -20.0}, "noise,snr=-20"),
    "white,snr=60": ("white", {"snr": 60.0}, "white,snr=60"),
    "telephone": ("telephone", {}, "telephone"),
    "gain,db=-12": ("gain", {"db": -12.0}, "gain,db=-12"),
}


@pytest.mark.parametrize("text", PARSED)
def test_a_perturbation_is_taken_apart(text: str) -> None:
    name, values, written = PARSED[text]
    assert parse_perturbation(text) == PerturbationSpec(name, values)
    assert canonical(text) == written


BAD: dict[str, tuple[type[UserInputError], str]] = {
    "nois,snr=10": (UnknownNameError, "unknown perturbation 'nois'; did you mean 'noise'?. Known: clean, gain, noise,"),
    "Noise,snr=10": (UnknownNameError, "unknown perturbation 'Noise'; did you mean 'noise'?"),
    "": (UserInputError, "perturbation '': expected a name first"),
    ",snr=10": (UserInputError, "expected a name first"),
    "snr=10": (UserInputError, "perturbation 'snr=10': expected a name first, such as 'noise,snr=10' (in quotes,"),
    "noise": (UserInputError, "perturbation 'noise': snr is missing, expected 'noise,snr=N' (in quotes,"),
    "gain": (UserInputError, "db is missing, expected 'gain,db=N'"),
    "noise,sn=10": (UserInputError, "unknown setting 'sn=10'; did you mean 'snr'?. Settings of 'noise': snr=N."),
    "noise,snr": (UserInputError, "unknown setting 'snr'; did you mean 'snr'?"),
    "noise,snr=10,": (UserInputError, "unknown setting ''. Settings of 'noise': snr=N."),
    "telephone,snr=10": (UserInputError, "unknown setting 'snr=10'. Settings of 'telephone': none."),
    "noise,snr=10,snr=5": (UserInputError, "snr is given twice"),
    "noise,snr=ten": (UserInputError, "snr is 'ten', expected a number from -20 to 60."),
    "noise,snr=": (UserInputError, "snr is '', expected a number"),
    "noise,snr=nan": (UserInputError, "snr is 'nan', expected a number"),
    "noise,snr=inf": (UserInputError, "snr is 'inf', expected a number"),
    "noise,snr=60.1": (UserInputError, "snr is '60.1', expected a number from -20 to 60."),
    "gain,db=3": (UserInputError, "db is '3', expected a number from -40 to 0."),
}


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("read", [parse_perturbation, canonical, perturbation])
def test_a_fault_is_named(text: str, read: object) -> None:
    kind, message = BAD[text]
    assert callable(read)
    with pytest.raises(kind) as caught:
        read(text)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.floats(-20, 60), st.sampled_from(["noise", "white"]))
@example(1e-9, "noise")
@example(-1 / 3, "white")
def test_the_canonical_form_keeps_the_value_and_is_its_own(snr: float, name: str) -> None:
    written = canonical(f"{name},snr={snr!r}")
    assert parse_perturbation(written).settings == {"snr": snr}
    assert canonical(written) == written


def test_every_perturbation_is_tested_here() -> None:
    assert {parse_perturbation(text).name for text in EVERY} == set(PERTURBATIONS)


def test_looking_a_name_up_loads_no_signal_processing() -> None:
    code = "import sys, salad_eval.audio.perturb as p; p.perturbation('telephone'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "salad_eval.audio.perturb" in loaded
    assert not {"scipy", "soxr"} & set(loaded)


# --- what holds for all ----------------------------------------------------------------------------------------------


def sound(samples: np.ndarray, rate_hz: int = RATE_HZ) -> Audio:
    return Audio(samples.astype(np.float32), rate_hz)


def tone(hz: float, seconds: float, amplitude: float = 0.1, rate_hz: int = RATE_HZ) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.asarray(samples, np.float64) ** 2)))


def speechlike(seconds: float, seed: int = 0, amplitude: float = 0.05) -> np.ndarray:
    """Noise that falls by 12 dB an octave above 500 Hz, in syllables: four bursts a second with pauses between."""
    from scipy import signal

    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    voice = signal.sosfilt(signal.butter(2, 500, fs=RATE_HZ, output="sos"), rng.standard_normal(n))
    return amplitude * voice / voice.std() * (np.sin(2 * np.pi * 4 * np.arange(n) / RATE_HZ) > 0)


@given(
    st.sampled_from(EVERY),
    st.lists(st.floats(-1, 1, width=32), max_size=30),
    st.integers(0, 3_000),
    st.sampled_from([8_000, 16_000, 22_050]),
)
@example("telephone", [1.0, -1.0] * 15, 2_000, 16_000)
@example("white,snr=-5", [1.0], 0, 16_000)
@example("noise,snr=-5", [1.0], 0, 16_000)
@example("noise,snr=10", [], 0, 16_000)
@example("telephone", [], 0, 16_000)
@example("telephone", [], 7, 22_050)
@settings(max_examples=150, deadline=None)
def test_length_rate_type_and_range_are_kept(text: str, values: Sequence[float], n_noise: int, rate_hz: int) -> None:
    tail = np.random.default_rng(n_noise).uniform(-1, 1, n_noise)
    clean = sound(np.concatenate([np.asarray(values), tail]), rate_hz)
    before = clean.samples.copy()
    got = perturbation(text)(clean)
    assert (got.samples.shape, got.samples.dtype, got.sample_rate_hz) == (before.shape, np.float32, rate_hz)
    assert np.isfinite(got.samples).all()
    assert np.max(np.abs(got.samples), initial=0.0) <= 1.0
    assert np.array_equal(clean.samples, before)
    assert np.array_equal(perturbation(text)(sound(before, rate_hz)).samples, got.samples)


@pytest.mark.parametrize("text", EVERY)
def test_silence_stays_silence(text: str) -> None:
    assert not perturbation(text)(sound(np.zeros(1_000))).samples.any()


def test_clean_is_the_sound_itself() -> None:
    clean = sound(tone(440, 0.1))
    assert perturbation(CLEAN)(clean) is clean


# --- noise -----------------------------------------------------------------------------------------------------------


def test_active_samples_are_those_within_30_db_of_the_loudest_frame() -> None:
    parts = [np.zeros(1_600), tone(500, 0.1, 0.5), tone(500, 0.1, 0.5 / 28), tone(500, 0.1, 0.5 / 36), np.zeros(77)]
    expected = np.concatenate([np.zeros(1_600), np.ones(3_200), np.zeros(1_600 + 77)]).astype(bool)
    assert np.array_equal(active(sound(np.concatenate(parts))), expected)
    assert not active(sound(np.zeros(500))).any()
    assert active(sound(np.zeros(0))).shape == (0,)


@pytest.mark.parametrize("name", ["noise", "white"])
@pytest.mark.parametrize("snr", [30.0, 10.0, 2.5, 0.0, -5.0])
def test_the_ratio_is_met_where_there_is_speech(name: str, snr: float) -> None:
    pause = np.zeros(RATE_HZ)
    clean = sound(np.concatenate([pause, speechlike(2.0)[:2_000], tone(300, 1.0, 0.05), pause]))
    speaks = np.concatenate([pause, np.ones(2_000 + RATE_HZ), pause]).astype(bool)
    noise = perturbation(f"{name},snr={snr}")(clean).samples.astype(np.float64) - clean.samples
    assert level_db(clean.samples[speaks]) - level_db(noise[speaks]) == pytest.approx(snr, abs=0.1)
    assert level_db(noise[~speaks]) == pytest.approx(level_db(noise[speaks]), abs=1.0)  # it does not stop in the pauses


@pytest.mark.parametrize("name", ["noise", "white"])
def test_loud_sound_is_scaled_down_and_keeps_its_ratio(name: str) -> None:
    clean = sound(tone(300, 2.0, 0.98))
    got = perturbation(f"{name},snr=10")(clean).samples.astype(np.float64)
    assert np.abs(got).max() == pytest.approx(PEAK, abs=1e-6)
    assert np.count_nonzero(np.abs(got) > PEAK - 1e-6) == 1  # the highest peak alone: nothing was cut
    speech = clean.samples * (got @ clean.samples / (clean.samples @ clean.samples))
    assert level_db(speech) - level_db(got - speech) == pytest.approx(10.0, abs=0.1)


def bands_db(samples: np.ndarray) -> np.ndarray:
    """Level in the octaves around 125, 250, …, 4000 Hz, (6,), in dB over the mean of them."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    edges = 125 * 2 ** (np.arange(7) - 0.5)
    levels = 10 * np.log10([power[(hz >= low) & (hz < high)].sum() for low, high in itertools.pairwise(edges)])
    return levels - levels.mean()


def test_noise_has_the_spectrum_of_the_speech_and_white_noise_has_none() -> None:
    clean = sound(speechlike(6.0))
    shaped = perturbation("noise,snr=5")(clean).samples - clean.samples
    white = perturbation("white,snr=5")(clean).samples - clean.samples
    assert np.ptp(bands_db(clean.samples)) > 20
    assert bands_db(shaped) == pytest.approx(bands_db(clean.samples), abs=1.0)
    octaves_of_white = 10 * np.log10(2) * (np.arange(6) - 2.5)  # every octave is twice as wide as the one below
    assert bands_db(white) == pytest.approx(octaves_of_white, abs=1.0)


def test_noise_is_stationary_where_speech_is_not() -> None:
    clean = sound(speechlike(6.0))
    noise = (perturbation("noise,snr=5")(clean).samples - clean.samples)[: 24 * 4_000].reshape(24, 4_000)
    levels = [level_db(quarter) for quarter in noise]
    assert np.ptp(levels) < 6
    assert np.corrcoef(clean.samples, perturbation("noise,snr=5")(clean).samples - clean.samples)[0, 1] < 0.05


@pytest.mark.parametrize("name", ["noise", "white"])
def test_noise_is_the_sounds_own(name: str) -> None:
    def noise(clean: Audio, snr: int) -> np.ndarray:
        added = perturbation(f"{name},snr={snr}")(clean).samples.astype(np.float64) - clean.samples
        return added / np.linalg.norm(added)

    one, other = sound(speechlike(1.0)), sound(speechlike(1.0, seed=1))
    assert noise(one, 10) @ noise(one, 3) > 0.9999  # another ratio is the same noise at another level
    assert abs(noise(one, 10) @ noise(other, 10)) < 0.1
    np.random.seed(3)  # noqa: NPY002 (that nothing draws from the global generator is what is tested)
    first = noise(one, 10)
    np.random.seed(4)  # noqa: NPY002
    assert np.array_equal(first, noise(one, 10))


# --- telephone -------------------------------------------------------------------------------------------------------


def outside_band_db(samples: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    """Energy below 300 and above 3400 Hz over that between, in dB."""
    power = np.abs(np.fft.rfft(np.asarray(samples, np.float64))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    inside = (hz >= 300) & (hz <= 3_400)
    return float(10 * np.log10(power[~inside].sum() / power[inside].sum()))


@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_the_telephone_band_is_what_is_left(rate_hz: int) -> None:
    white = sound(np.random.default_rng(0).uniform(-0.3, 0.3, 2 * rate_hz), rate_hz)
    assert outside_band_db(white.samples, rate_hz) > 0
    assert outside_band_db(perturbation("telephone")(white).samples, rate_hz) < -30


@pytest.mark.parametrize(
    ("hz", "loss_db"), [(120, 30.0), (250, 30.0), (400, 0.0), (1_000, 0.0), (3_300, 0.0), (3_600, 30.0), (6_000, 30.0)]
)
def test_the_telephones_frequency_response(hz: float, loss_db: float) -> None:
    clean = sound(tone(hz, 1.0, 0.2) + tone(900, 1.0, 0.2))  # with a tone that always comes through
    middle = slice(2_000, -2_000)
    window = np.hanning(len(clean.samples[middle]))
    before, after = (np.abs(np.fft.rfft(a.samples[middle] * window)) for a in (clean, perturbation("telephone")(clean)))
    place = round(hz * len(window) / RATE_HZ)
    loss = 20 * np.log10(before[place] / after[place])
    if loss_db:
        assert loss > loss_db
    else:
        assert loss == pytest.approx(0.0, abs=0.5)


def test_the_telephone_delays_nothing() -> None:
    click = np.zeros(8_000)
    click[3_000] = 0.9
    assert int(np.argmax(np.abs(perturbation("telephone")(sound(click)).samples))) == 3_000


def test_mu_law_is_that_of_g711() -> None:
    import soundfile

    steps = np.arange(-8_191, 8_192)  # 14-bit, as 16-bit samples of which the last two bits are zero
    file = io.BytesIO()
    soundfile.write(file, (steps * 4).astype(np.int16), 8_000, format="RAW", subtype="ULAW")
    codes = mu_law_encode(steps / 8_192)
    assert np.array_equal(codes[steps != 0], np.frombuffer(file.getvalue(), np.uint8)[steps != 0])
    file.seek(0)
    theirs, _ = soundfile.read(file, dtype="int16", format="RAW", subtype="ULAW", samplerate=8_000, channels=1)
    assert np.array_equal(mu_law_decode(codes) * 32_768, theirs)


MU_LAW = {
    0: (0xFF, 0),
    2: (0xFE, 2),
    -2: (0x7E, -2),
    8_191: (0x80, 8_031),
    -8_192: (0x00, -8_031),
    1_000: (0xAF, 1_023),
}


@pytest.mark.parametrize("step", MU_LAW)
def test_mu_law_by_the_table(step: int) -> None:
    code, decoded = MU_LAW[step]
    codes = mu_law_encode(np.array([step / 8_192]))
    assert (codes.dtype, codes.tolist()) == (np.uint8, [code])
    assert (mu_law_decode(codes) * 8_192).tolist() == [decoded]


def test_mu_law_is_off_by_half_a_step_at_most() -> None:
    x = np.arange(-8_192, 8_193)
    error = np.abs(mu_law_decode(mu_law_encode(x / 8_192)).astype(np.float64) * 8_192 - x)
    assert (error <= (np.abs(x) + 33) / 32).all()
    companded = np.log1p(255 * np.abs(x) / 8_192) / np.log(256)  # F(x), which the code approximates in 128 levels
    magnitude = (255 - mu_law_encode(x / 8_192).astype(int)) & 127
    assert np.abs(magnitude / 127 - companded).max() < 0.02


def test_every_code_stands_for_itself() -> None:
    codes = np.arange(256, dtype=np.uint8)
    again = mu_law_encode(mu_law_decode(codes))
    assert again[codes != 0x7F].tolist() == codes[codes != 0x7F].tolist()
    assert again[0x7F] == 0xFF  # minus nothing is nothing


def test_gain_is_in_decibels() -> None:
    clean = sound(tone(440, 0.5))
    assert level_db(perturbation("gain,db=-12")(clean).samples) == pytest.approx(level_db(clean.samples) - 12, abs=1e-4)


# --- in a run --------------------------------------------------------------------------------------------------------

SENTENCES = (
    "Have you seen my umbrella anywhere?",
    "The children played in the garden all afternoon.",
    "Can you pass me the salt, please?",
    "We went to the market to buy bread and milk.",
    "Nothing ever happens in this town.",
    "She opened the window and looked at the street.",
    "What time does the train leave?",
    "The old man walked slowly along the river.",
    "I would like a cup of tea with sugar.",
    "Where did you put the keys?",
)


def test_one_sentence_through_the_renderer(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    texts = ("clean", "noise,snr=10", "white,snr=10", "telephone", "gain,db=-20")
    jobs = [RenderJob("q", "context", "en-us+f3", text, SENTENCES[0]) for text in texts]
    made = list(render(jobs, tts="pyttsx3", tts_options={}, store=store))
    assert [r.perturbation for r in made if isinstance(r, Rendering)] == list(texts)
    assert len({r.sha256 for r in made if isinstance(r, Rendering)}) == len(texts)
    sounds = {r.perturbation: store.get(r.sha256) for r in made if isinstance(r, Rendering)}
    assert {s.sample_rate_hz for s in sounds.values()} == {RATE_HZ}
    assert outside_band_db(sounds["clean"].samples) > -30
    assert outside_band_db(sounds["telephone"].samples) < -30
    # each was spoken anew, and no two syntheses are sample-exact, so levels are compared and not samples
    drop = level_db(sounds["clean"].samples) - level_db(sounds["gain,db=-20"].samples)
    assert drop == pytest.approx(20, abs=0.5)


def test_the_shipped_recogniser_hears_less_in_noise(tmp_path: Path) -> None:
    import torch

    from salad_eval import plugins
    from salad_eval.pipeline.transcribe import transcribe

    torch.set_num_threads(1)
    store = AudioStore(tmp_path)
    jobs = [
        RenderJob(str(n), "context", "en-us+f3", text, sentence)
        for text in ("clean", "noise,snr=0")
        for n, sentence in enumerate(SENTENCES)
    ]
    made = [r for r in render(jobs, tts="pyttsx3", tts_options={}, store=store) if isinstance(r, Rendering)]
    asr = plugins.create("salad.asr", "transformers-ctc", {"pretrained": "nano/asr"})
    heard = [t for t in transcribe(made, asr, store, answers={}) if isinstance(t, Transcript)]
    assert len(heard) == len(jobs)

    def wer(text: str) -> float:
        mine = [t for t in heard if t.perturbation == text]
        return sum(t.word_errors for t in mine) / sum(t.n_words for t in mine)

    assert wer("noise,snr=0") > wer("clean") + 0.3
