"""``salad select``: which texts of a corpus to speak next, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salad_eval.cli.names import names_in
from salad_train.cli.options import Address, EngineName, engine_keys, with_options

if TYPE_CHECKING:
    from salad_eval.pipeline.plan import PluginChoice
    from salad_train.recipe import Recipe
    from salad_train.selection.files import SelectPlan

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectRequest:
    """What ``salad select`` is asked for: a selection (``plan``) and where its texts, voices and models come from (``training``)."""

    budget_seconds: Annotated[float, typer.Option(help="Sound to be made, in seconds; met within 1%.")]
    report: Annotated[
        Path | None,
        typer.Option(help="The folder of a finished salad run (on the validation split), or a gap_report.json."),
    ] = None
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Texts to choose from: .jsonl, .parquet, .arrow, a folder of these, a datasets id, nano/corpus."
        ),
    ] = None
    signal: Annotated[
        str, typer.Option(help="uniform, misalignment, distillation, gap, learnability, or a plug-in's.")
    ] = "misalignment"
    gamma: Annotated[
        float, typer.Option(help="Target ∝ share of the corpus · signal^gamma; 0 is the corpus itself.")
    ] = 5.0
    clusters: Annotated[int, typer.Option(help="K, the number of clusters.")] = 128
    floor: Annotated[float, typer.Option(help="Least target as a multiple of the cluster's share of the corpus.")] = 0.0
    cap: Annotated[float | None, typer.Option(help="Most target as such a multiple; none if not given.")] = None
    probe_documents: Annotated[int, typer.Option(help="Documents spoken and measured in each cluster.")] = 16
    max_cer: Annotated[
        float | None,
        typer.Option(
            help="Exclude clusters above this character error rate; 3 times the median, at least 0.2, if not given."
        ),
    ] = None
    recogniser: Annotated[
        str | None, typer.Option(help="A CTC model that transcribes the probes: nano/asr, a folder or a hub id.")
    ] = None
    recipe: Annotated[
        str,
        typer.Option(
            help="A training recipe: corpus, models, voices and spans, where they are not given by an option."
        ),
    ] = "nano"
    model: Annotated[str | None, typer.Option(help="The speech LLM that is to be trained on.")] = None
    base: Annotated[str | None, typer.Option(help="The text LLM it came from.")] = None
    voices: Annotated[
        list[str] | None, typer.Option(help="Who speaks, the recipe's if not given; comma-separated or repeated.")
    ] = None
    embedder: Annotated[str, typer.Option(help="tfidf, lm, sentence-transformers, or a plug-in's.")] = "tfidf"
    avoid: Annotated[
        list[Path] | None,
        typer.Option(
            help="The folder of a run whose items no document may hold, besides those of --report; repeat for more."
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Of clusters, probes and draws.")] = 0
    allow_test_split: Annotated[
        bool, typer.Option("--allow-test-split", help="Take a report on the test split nevertheless.")
    ] = False
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the recipe, such as corpus.domain_field=topic; repeat for more."),
    ] = None
    set_signal: Annotated[
        list[str] | None, typer.Option("--set-signal", help="An option of the signal as key=value; repeat for more.")
    ] = None
    set_embedder: Annotated[
        list[str] | None,
        typer.Option("--set-embedder", help="An option of the embedder as key=value; repeat for more."),
    ] = None
    device: Annotated[str, typer.Option(help="Where models run: auto, cpu, cuda.")] = "auto"
    engine: EngineName = None
    address: Address = None
    out: Annotated[
        Path, typer.Option(help="The selection's folder; what a killed run goes on from lies there too.")
    ] = Path("runs/selection")

    def plan(self) -> SelectPlan:
        from salad_eval.validation import parse_setting
        from salad_train.selection.files import SelectPlan

        return SelectPlan(
            budget_seconds=self.budget_seconds,
            signal=self.signal,
            signal_options=dict(parse_setting(text) for text in self.set_signal or ()),
            gamma=self.gamma,
            clusters=self.clusters,
            embedder=self.embedder,
            embedder_options=dict(parse_setting(text) for text in self.set_embedder or ()),
            probe_documents=self.probe_documents,
            floor=self.floor,
            cap=self.cap,
            max_cer=self.max_cer,
            seed=self.seed,
            allow_test_split=self.allow_test_split,
        )

    def training(self) -> Recipe:
        found = recipe_for(
            self.recipe,
            model=self.model,
            base=self.base,
            voices=names_in(self.voices),
            corpus=self.corpus,
            settings=self.settings or (),
            given=engine_keys(self.engine, self.address),
        )
        return found.on_device(self.device)

    def asr(self) -> PluginChoice | None:
        from salad_eval.pipeline.plan import PluginChoice

        if self.recogniser is None:
            return None
        return PluginChoice(name="transformers-ctc", options={"pretrained": self.recogniser})


@app.command()
@with_options(SelectRequest)
def select_command(asked: SelectRequest) -> None:
    """Choose what to speak next: embed, cluster, probe, weigh by a signal, and draw documents up to a budget of seconds.

    Writes selection.jsonl (documents in the order of drawing), selection.json, selection.md and selection.png.

    Example:

    salad select --report runs/mine --budget-seconds 600 --out chosen/
    """
    from rich.console import Console

    from salad_train.selection.files import PICTURE, write_selection
    from salad_train.selection.select import select_from_run
    from salad_train.selection.views import selection_terminal

    found = select_from_run(
        asked.plan(),
        asked.training(),
        asked.out,
        run=asked.report,
        avoid=tuple(asked.avoid or ()),
        asr=asked.asr(),
    )
    write_selection(found, asked.out)
    Console().print(selection_terminal(found), crop=False)
    typer.echo(f"\npicture: {asked.out / PICTURE}\nselection: {asked.out}")


def recipe_for(
    name: str,
    *,
    model: str | None = None,
    base: str | None = None,
    voices: Sequence[str] = (),
    corpus: str | None = None,
    settings: Sequence[str] = (),
    given: Mapping[str, str | None] = {},
) -> Recipe:
    """The recipe by name or path, with what is given besides it in its place. Another corpus is read by ``CorpusPlan``'s
    defaults, and not by the fields and filters of the recipe's own. ``given``: other keys of it."""
    from salad_eval.validation import parse_setting
    from salad_train.recipe import load_recipe

    named = {
        "stage2.init": model,
        "stage2.base": base,
        "stage2.voices": list(voices) or None,
        "corpus": {"source": corpus} if corpus is not None else None,
    }
    overrides = {key: value for key, value in named.items() if value is not None}
    return load_recipe(name, {**overrides, **given, **dict(parse_setting(text) for text in settings)})
