"""``salad render`` and ``salad transcribe``: the two halves of speech, each by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salad_eval.cli.names import names_in
from salad_eval.errors import SaladError, UserInputError
from salad_eval.identity import digest

if TYPE_CHECKING:
    from salad_eval.pipeline.render import RenderJob

DEFAULT_VOICE = "en-us+f3"
DEFAULT_ASR = "transformers-ctc"
NANO_ASR = "nano/asr"
TtsOption = Annotated[str, typer.Option(help="A TTS plug-in; salad plugins list names them.")]
TtsSettings = Annotated[
    list[str] | None, typer.Option("--set-tts", help="An option of the TTS as key=value; repeat for more.")
]
LONGEST_NAME = 200  # characters; file systems take 255 bytes, suffix included


def plugin_options(settings: Sequence[str] | None) -> dict[str, Any]:
    from salad_eval.validation import parse_setting, with_overrides

    return with_overrides({}, dict(parse_setting(text) for text in settings or ()))


def render_command(
    texts: Annotated[list[str] | None, typer.Argument(help="What is to be said.")] = None,
    task: Annotated[str | None, typer.Option(help="Say the spoken parts of a task's items instead.")] = None,
    split: Annotated[str, typer.Option(help="The task's split.")] = "test",
    limit: Annotated[int, typer.Option(help="How many of the task's items.")] = 3,
    voices: Annotated[
        list[str] | None, typer.Option(help=f"Who speaks, {DEFAULT_VOICE} by default; comma-separated or repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the WAV files.")] = Path("speech"),
    tts: TtsOption = "pyttsx3",
    settings: TtsSettings = None,
) -> None:
    """Speak texts, or a task's items, into WAV files; prints what is said for what is written.

    manifest.jsonl beside them lists them, as a task names it under metadata.salad.audio to be asked in this sound.

    Examples:

    salad render "It weighs 5 kg." --voices en-us+f3 --out said/

    salad render --task salad_nano --limit 5 --voices en-us+f3 --out said/
    """
    from salad_eval.audio.sound import write_audio
    from salad_eval.audio.store import AudioStore
    from salad_eval.pipeline.apart import is_strange
    from salad_eval.pipeline.executor import WorkerProcesses
    from salad_eval.pipeline.render import render
    from salad_eval.pipeline.tools import PluginRef
    from salad_eval.records import write_jsonl
    from salad_eval.types import Rendering

    jobs, written = _jobs(texts or [], task, split, limit, names_in(voices) or [DEFAULT_VOICE])
    store, options = AudioStore(), plugin_options(settings)
    crew = WorkerProcesses(1, apart=is_strange(PluginRef("salad.tts", tts, options)))
    out.mkdir(parents=True, exist_ok=True)
    listed: list[dict[str, str]] = []
    failed = 0
    for job, outcome in zip(jobs, render(jobs, tts=tts, tts_options=options, store=store, executor=crew), strict=True):
        print(f"written: {written[job.item_id, job.part]}\nspoken:  {job.spoken_text}")
        if isinstance(outcome, Rendering):
            file = out / (_file_name(f"{job.item_id}.{job.part}.{job.voice}") + ".wav")
            write_audio(file, store.get(outcome.sha256))
            print(f"file:    {file} ({outcome.seconds:.2f} s, {job.voice})")
            own = job.item_id.partition(":")[2] or job.item_id  # what the task's rows call it, where they have ids
            listed.append({"id": own, "part": job.part, "file": file.name, "voice": job.voice})
        else:
            failed += 1
            print(f"failed:  {outcome.reason} {outcome.detail}".rstrip())
    write_jsonl(out / "manifest.jsonl", listed)
    if failed:
        raise SaladError(f"{failed} of {len(jobs)} texts could not be spoken.")


def _jobs(
    texts: Sequence[str], task: str | None, split: str, limit: int, voices: Sequence[str]
) -> tuple[list[RenderJob], dict[tuple[str, str], str]]:
    """The jobs, and the written form of each by item and part."""
    from salad_eval.benchmarks.catalogue import load_task
    from salad_eval.benchmarks.items import load_items
    from salad_eval.pipeline.render import jobs_for
    from salad_eval.types import Item, SpokenPart

    if bool(texts) == (task is not None):
        raise UserInputError("give either texts to say, or --task NAME.")
    if task is not None:
        items, _, _ = load_items(load_task(task), split, limit=limit)
    else:
        items = [
            Item(f"text{n}", "", "", "", text, (), None, f"text{n}", (SpokenPart("text", 0, len(text)),))
            for n, text in enumerate(texts, start=1)
        ]
    jobs, rejects = jobs_for(items, voices)
    if any(item.recordings for item in items):
        raise UserInputError(
            f"task {task} has ready sound (metadata.salad.audio): nothing of it is spoken. Run it; then salad export."
        )
    if rejects:
        raise SaladError("; ".join(f"{reject.item_id} cannot be spoken: {reject.detail}" for reject in rejects))
    return jobs, {(item.id, part.name): item.part_text(part) for item in items for part in item.spoken_parts}


def _file_name(text: str) -> str:
    """A name that every file system takes; a long one ends in a digest of the whole."""
    name = re.sub(r"[^A-Za-z0-9+.-]+", "_", text).strip("_.")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}-{digest(text)[:12]}"


def transcribe_command(
    files: Annotated[list[Path] | None, typer.Argument(help="WAV, FLAC or OGG files.")] = None,
    run: Annotated[Path | None, typer.Option(help="The renderings of a run instead, with its plan's ASR.")] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="What is said in the files, in their order; gives the WER.")
    ] = None,
    asr: Annotated[str, typer.Option(help="An ASR plug-in; salad plugins list names them.")] = DEFAULT_ASR,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set-asr", help=f"An option of the ASR as key=value; repeat for more. pretrained={NANO_ASR} by default."
        ),
    ] = None,
) -> None:
    """Recognise audio files, or what a run has rendered; prints the text, and the WER where it is known what was said.

    Examples:

    salad transcribe a.wav --reference "It weighs five kilograms."

    salad transcribe --run runs/mine
    """
    from salad_eval import plugins
    from salad_eval.audio.sound import read_audio
    from salad_eval.pipeline.transcribe import count_errors

    if bool(files) == (run is not None):
        raise UserInputError("give either audio files, or --run DIR.")
    if run is not None:
        _transcribe_run(run)
        return
    if reference and len(reference) != len(files or []):
        raise UserInputError(
            f"{len(reference)} references for {len(files or [])} files; give one a file, in their order."
        )
    for file in files or []:
        if not file.is_file():
            raise UserInputError(f"no audio file at {str(file)!r}.")
    options = plugin_options(settings)
    if asr == DEFAULT_ASR:
        options.setdefault("pretrained", NANO_ASR)
    audios = [read_audio(file) for file in files or []]
    texts = plugins.create("salad.asr", asr, options).transcribe(audios)
    counts = []
    for place, (file, text) in enumerate(zip(files or [], texts, strict=True)):
        print(f"{file}: {text}")
        if reference:
            counts.append(count_errors(reference[place], text))
            print(f"  WER {_rate(counts[-1].word_errors, counts[-1].n_words)}")
    if len(counts) > 1:
        print(f"WER of all: {_rate(sum(c.word_errors for c in counts), sum(c.n_words for c in counts))}")


def _transcribe_run(folder: Path) -> None:
    """Transcribe a run's renderings with its plan's ASR, and print the error rates by voice."""
    from salad_eval import plugins
    from salad_eval.audio.store import AudioStore
    from salad_eval.pipeline.finished import read_step
    from salad_eval.pipeline.plan import PLAN_FILE, Plan
    from salad_eval.pipeline.render import STEP
    from salad_eval.pipeline.transcribe import transcribe
    from salad_eval.types import Transcript

    plan = Plan.from_yaml(folder / PLAN_FILE)
    outcomes = read_step(folder, STEP.name, STEP.record)
    renderings = [outcome.rendering for outcome in outcomes if outcome.rendering is not None]
    asr = plugins.create("salad.asr", plan.asr.name, plan.asr.options)
    errors: dict[str, list[int]] = {}
    found = transcribe(renderings, asr, AudioStore(plan.audio_store), answers={})
    for rendering, outcome in zip(renderings, found, strict=True):
        print(f"{rendering.item_id} {rendering.part} {rendering.voice}")
        if isinstance(outcome, Transcript):
            print(f"  said:  {rendering.spoken_text}\n  heard: {outcome.text}")
            total = errors.setdefault(rendering.voice, [0, 0])
            total[0] += outcome.word_errors
            total[1] += outcome.n_words
        else:
            print(f"  failed: {outcome.reason} {outcome.detail}".rstrip())
    for voice, (wrong, words) in errors.items():
        print(f"WER of {voice}: {_rate(wrong, words)}")


def _rate(errors: int, n: int) -> str:
    return f"{100 * errors / n:.1f}% ({errors} of {n} words)" if n else "undefined (nothing was said)"
