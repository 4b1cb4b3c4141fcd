"""The plan of a run: everything its numbers depend on, typed, written down before anything else is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from salad_eval import resources
from salad_eval.audio.perturb import canonical
from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.gap.signature import MOST_REJECTED
from salad_eval.pipeline.deadline import DEFAULT_SECONDS
from salad_eval.pipeline.engines import EngineChoice
from salad_eval.types import CLEAN, ControlName, ScoreKind
from salad_eval.validation import parse, read_table, with_overrides

PLAN_FILE = "plan.json"
DEFAULT_RESAMPLES = 10_000
_PRESETS = Path(__file__).resolve().parents[1] / "presets"


def _as_list(value: object) -> object:
    """One name where several are expected is a list of one."""
    return [value] if isinstance(value, str) else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _condition(name: str) -> str:
    """In canonical form, so that equal conditions are one, in the store as in the report."""
    try:
        return canonical(name)
    except (
        UserInputError
    ) as cause:  # pydantic gathers ValueErrors alone, and the sentence it ends in has its own full stop
        raise ValueError(str(cause).removesuffix(".")) from None


Text: TypeAlias = Annotated[str, Field(min_length=1)]
Names: TypeAlias = Annotated[
    tuple[Text, ...], BeforeValidator(_as_tuple), BeforeValidator(_as_list), Field(min_length=1)
]
Voices: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple), BeforeValidator(_as_list)]
Conditions: TypeAlias = Annotated[
    tuple[Annotated[Text, AfterValidator(_condition)], ...],
    BeforeValidator(_as_tuple),
    BeforeValidator(_as_list),
    Field(min_length=1),
]
Options: TypeAlias = dict[str, JsonValue]


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PluginChoice(_Typed):
    """A TTS or ASR plug-in.

    Attributes:
        name: its registered name.
        options: what it is built with.
    """

    name: Text
    options: Options = {}


class SystemChoice(_Typed):
    """A system plug-in.

    Attributes:
        system: its registered name.
        options: what it is built with.
    """

    system: Text
    options: Options = {}


Amount: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(_Typed):
    """What a model costs: whichever of these it is paid by, added up.

    Attributes:
        million_read: for a million tokens that it reads.
        million_written: for a million tokens that it writes.
        sound_minute: for a minute of sound that it hears.
        machine_hour: for an hour of the machine that it runs on.
    """

    million_read: Amount = 0.0
    million_written: Amount = 0.0
    sound_minute: Amount = 0.0
    machine_hour: Amount = 0.0


class Prices(_Typed):
    """What the models cost.

    Attributes:
        currency: what all prices are in.
        asr: of the cascade's ears.
        base: of the text LLM.
        adapted: of the speech LLM.
    """

    currency: Text = "USD"
    asr: Price | None = None
    base: Price | None = None
    adapted: Price | None = None


class Plan(_Typed):
    """What is evaluated, on what, how, and where the run goes.

    Attributes:
        name: of the run, in its report.
        tasks: names or paths of task YAMLs, or with ``speak`` any task or group of lm-eval's.
        speak: what is spoken, ``context`` or ``context+choices``; overrides the tasks' own.
        data_dir: a local mirror of the data sets (see ``benchmarks.data``).
        split: the split whose items are asked.
        limit: items a task, spread over its domains.
        seed: of everything that is drawn: items under ``limit``, resamples, noise.
        voices: as the TTS names them, with settings: ``en-us+f3,rate=150``. May be left out where all tasks have ready sound
            (``metadata.salad.audio``).
        conditions: ``clean``, ``noise,snr=10`` and so on (``perturb.parse_perturbation``); kept in canonical form. ``perturbations`` is
            read as the same.
        tts: what speaks: a plug-in of ``salad.tts`` with its options; may be left out as ``voices`` may.
        asr: the cascade's ears: a plug-in of ``salad.asr`` with its options.
        base: the text LLM: a plug-in of ``salad.systems`` with its options.
        adapted: the speech LLM: the same.
        shots: examples before each question; overrides the tasks' own.
        spoken_shots: whether these are spoken too; overrides the tasks' own.
        score: how answers are asked for and scored; overrides the tasks' own.
        metric: which of lm-eval's measures counts; overrides the tasks' own.
        options: ``lettered`` lists the options in every column's prompt (see ``benchmarks.lettered``); overrides the tasks' own.
        n_resamples: bootstrap resamples behind each interval.
        slice_fields: ``voice``, ``condition``, ``task`` or columns of the data; by default voice and what the tasks name.
        most_rejected: the share of the questions that may be left out; above it the report has no headline.
        controls: what is asked without the question as well (``floor``: what is spoken left out; ``silent`` and ``swapped``: silence,
            or another item's sound, in its place), so that it shows whether the speech LLM hears and whether a gap can show at all.
        workers: processes that render; by default one a core, or as many as a cluster has room for.
        engine: where the work is done: this machine or a cluster; numbers do not depend on it.
        timeout: seconds that a plug-in may take for an item, in the mean of those it is asked at once (60 by default, and 600 more to
            start), before it is given up.
        prices: what the models cost, so that the report says what a column cost; no answer depends on it.
        out: the run folder; by default ``runs/<name>``.
        audio_store: where sound is kept; by default shared by all runs.
        created: time stamp of the report, UTC; set when a run begins and kept when it resumes.
    """

    name: Text = "run"
    tasks: Names
    speak: Literal["context", "context+choices"] | None = None
    data_dir: Text | None = None
    split: Text = "test"
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    voices: Voices = ()
    conditions: Conditions = (CLEAN,)
    tts: PluginChoice | None = None
    asr: PluginChoice
    base: SystemChoice
    adapted: SystemChoice
    shots: Annotated[int, Field(ge=0)] | None = None
    spoken_shots: bool | None = None
    score: ScoreKind | None = None
    metric: Text | None = None
    options: Literal["none", "lettered"] | None = None
    n_resamples: Annotated[int, Field(ge=100)] = DEFAULT_RESAMPLES
    slice_fields: Names | None = None
    most_rejected: Annotated[float, Field(ge=0, le=1)] = MOST_REJECTED
    controls: Annotated[tuple[ControlName, ...], BeforeValidator(_as_tuple), BeforeValidator(_as_list)] = (
        "floor",
        "silent",
        "swapped",
    )
    workers: Annotated[int, Field(ge=1)] | None = None
    engine: EngineChoice = EngineChoice()
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DEFAULT_SECONDS
    prices: Prices = Prices()
    out: Text | None = None
    audio_store: Text | None = None
    created: str | None = None

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any], where: str = "plan") -> Plan:
        """A plan from plain values. Raises ``UserInputError`` naming the key, its value and what was expected."""
        if isinstance(table, Mapping) and "perturbations" in table:  # their earlier name
            if "conditions" in table:
                raise UserInputError(
                    f"{where}: conditions and perturbations are two names of one key. Keep conditions."
                )
            table = {"conditions" if key == "perturbations" else key: value for key, value in table.items()}
        plan = parse(cls, table, where)
        for key in ("tasks", "voices", "conditions", "controls"):
            names: tuple[str, ...] = getattr(plan, key)
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise UserInputError(f"{where}: {key} names {twice!r} twice; each counts once.")
        return plan

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Plan:
        """The plan in a YAML file (or a run's ``plan.json``); ``overrides`` are dotted keys and their values."""
        file = Path(path).expanduser()
        table = read_table(file, "plan", "use --preset nano")
        table.setdefault("name", file.stem if file.name != PLAN_FILE else file.resolve().parent.name)
        where = f"preset {file.stem}" if file.parent == _PRESETS else str(file)
        return cls.from_mapping(with_overrides(table, overrides or {}), where)

    @classmethod
    def preset(cls, name: str, overrides: Mapping[str, Any] | None = None) -> Plan:
        """A plan that ships with the package; ``overrides`` are dotted keys and their values."""
        known = resources.shipped_yaml(_PRESETS)
        if name not in known:
            raise UnknownNameError("preset", name, known)
        return cls.from_yaml(known[name], overrides)

    @classmethod
    def of(cls, plan: Plan | str | os.PathLike[str] | Mapping[str, Any], overrides: Mapping[str, Any]) -> Plan:
        """A plan from what a caller may give: a preset's name, the path of a YAML, a ``Plan``, or what a YAML would hold."""
        if isinstance(plan, (Plan, Mapping)):
            table = plan.model_dump(mode="json") if isinstance(plan, Plan) else plan
            return cls.from_mapping(with_overrides(table, overrides))
        return cls.from_yaml(resources.find_yaml("preset", plan, _PRESETS), overrides)

    def anchored(self) -> Plan:
        """The same with its tasks' files, data and sound named from the root, so that what is read of a finished run (export, compare,
        report) works from any folder."""

        from salad_eval.formats.packages import is_package_path

        def whole(path: str | None) -> str | None:
            stays = path is None or is_package_path(path)
            return path if stays else os.path.abspath(Path(str(path)).expanduser())

        tasks = tuple(str(whole(task)) if Path(task).suffix in (".yaml", ".yml") else task for task in self.tasks)
        return self.model_copy(
            update={"tasks": tasks, "data_dir": whole(self.data_dir), "audio_store": whole(self.audio_store)}
        )

    @property
    def folder(self) -> Path:
        """Where the run goes: ``out``, or ``runs/<name>`` in the working directory."""
        return Path(self.out).expanduser() if self.out else Path("runs") / self.name

    @property
    def n_workers(self) -> int:
        """Processes that render on this machine."""
        return self.workers if self.workers is not None else (os.cpu_count() or 1)
