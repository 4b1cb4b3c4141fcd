"""``salad check``: does a voice model understand less than its text model? A hundred easy questions, some minutes, one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salad_eval.cli.names import names_in
from salad_eval.errors import SaladError, UserInputError

if TYPE_CHECKING:
    from salad_eval.types import GapReport

VOICES = ("en-us+f3", "en-us+m7")
NANO = "nano"
MODELS_TIMEOUT_SECONDS = 10.0


def check_command(
    text: Annotated[
        str,
        typer.Option(help="The text model: a folder, a hub id, or a server's URL (URL#MODEL where it serves several)."),
    ],
    voice: Annotated[str, typer.Option(help="The voice model, in the same way.")],
    recogniser: Annotated[
        str,
        typer.Option(help="What to set beside it: a folder or hub id of a CTC model. The embedded one hears little."),
    ] = "nano/asr",
    voices: Annotated[list[str] | None, typer.Option(help="Who speaks; comma-separated or repeated.")] = None,
    limit: Annotated[int | None, typer.Option(help="Fewer questions.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/check"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a served model is called.")] = False,
) -> None:
    """Whether a voice model understands less than its text model, on a hundred easy questions.

    Examples:

    salad check --text Qwen/Qwen2.5-3B --voice path/to/your-voice-model

    salad check --text http://localhost:8000/v1 --voice http://localhost:8001/v1
    """
    from salad_eval.pipeline.plan import Plan
    from salad_eval.pipeline.run import run

    plan = Plan.preset(
        NANO,
        {
            "name": "check", "tasks": ["salad_check"], "voices": names_in(voices) or list(VOICES), "limit": limit, "out": str(out),
            "asr": {"name": "transformers-ctc", "options": {"pretrained": recogniser}},
            "base": text_model(text), "adapted": voice_model(voice),
            **({"score": "generate"} if is_url(text) or is_url(voice) else {}),
        },
    )  # fmt: skip
    _tell_cost(plan, ask=not yes)
    report = run(plan)
    print(f"\n{verdict(report)}\n\nreport: {plan.folder / 'report.html'}")


def verdict(report: GapReport) -> str:
    """What was found, in a sentence or two."""
    from salad_eval.report.controls import is_deaf
    from salad_eval.report.wording import clear, interval, negated, percent, printable, signed

    gap, row = report.overall.gap, report.overall
    reads, hears = (percent(row.accuracy[column].value) for column in ("base_text", "adapted_speech"))
    names = [printable(report.names.base or "the text model"), printable(report.names.adapted or "the voice model")]
    found = f"On {row.n_items} easy questions {names[0]} reads {reads}% right, and {names[1]} hears {hears}% right:"
    if not clear(gap):
        said = f"{found} no clear difference ({signed(gap.value)} points {interval(gap)})."
    elif gap.value > 0:
        said = f"{found} it understands {percent(gap.value)} points {interval(gap)} less."
    else:
        said = f"{found} it understands {percent(-gap.value)} points {interval(negated(gap))} more."
    return f"{said} Nothing shows that it hears at all." if is_deaf(report) else said


def is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def text_model(name: str) -> dict[str, Any]:
    """The plan's ``base``: a served model, the embedded one, or any causal LM."""
    if is_url(name):
        return {"system": "openai-text", "options": {**_served(name), "api": "chat"}}
    return {"system": "hf-text", "options": {"pretrained": "nano/base" if name == NANO else name}}


def voice_model(name: str) -> dict[str, Any]:
    """The plan's ``adapted``: a served model that hears, the embedded one, a checkpoint of this package, or another speech LLM."""
    if is_url(name):
        return {"system": "openai-audio", "options": _served(name)}
    if name == NANO:
        return {"system": "salad", "options": {"pretrained": "nano/speech"}}
    ours = _model_type(Path(name).expanduser()) == "salad"
    return {"system": "salad" if ours else "hf-speech", "options": {"pretrained": name}}


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", ""))
    except (OSError, ValueError, AttributeError):  # a hub id, or no model folder: the plug-in says what it lacks
        return ""


def _served(url: str) -> dict[str, str]:
    """Base URL and model of ``URL#MODEL``; of a plain URL the one model that the server says it has."""
    base, _, model = url.partition("#")
    return {"base_url": base, "model": model or _only_model(base)}


def _only_model(base: str) -> str:
    import requests

    try:
        reply = requests.get(f"{base.rstrip('/')}/models", timeout=MODELS_TIMEOUT_SECONDS)
        names = [str(model["id"]) for model in reply.json()["data"]]
    except (requests.RequestException, ValueError, KeyError, TypeError) as cause:
        raise SaladError(
            f"{base}: does not say which models it serves ({type(cause).__name__}). Name one: {base}#MODEL"
        ) from None
    if len(names) != 1:
        listed = ", ".join(names[:10]) or "none"
        raise UserInputError(f"{base} serves {len(names)} models ({listed}). Name one: {base}#MODEL")
    return names[0]


def _tell_cost(plan: Any, *, ask: bool) -> None:
    from salad_eval.pipeline.estimate import counted
    from salad_eval.progress import duration

    told = counted(plan)
    print(
        f"{told.n_items} questions, {told.n_recordings} recordings, {duration(told.seconds_of_sound)} of speech, "
        f"{told.calls:,} calls to served models, about {told.tokens:,} tokens.",
        flush=True,
    )
    if told.calls and ask and sys.stdin.isatty() and not typer.confirm("Go on?"):
        raise typer.Exit(1)
