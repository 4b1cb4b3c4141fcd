"""A command's options as a frozen record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from salad_train.cli.options import with_options
from salad_train.cli.select import SelectRequest
from salad_train.selection.files import SelectPlan


@dataclass(frozen=True, kw_only=True)
class Order:
    dish: Annotated[str, typer.Option(help="What to eat.")]
    sides: Annotated[list[str] | None, typer.Option("--side", help="Repeat for more.")] = None
    salted: Annotated[bool, typer.Option("--salted")] = False


@pytest.mark.parametrize(
    ("arguments", "code", "order"),
    [
        (["--dish", "soup"], 0, Order(dish="soup")),
        (["--side", "rice", "--dish", "soup", "--side", "peas"], 0, Order(dish="soup", sides=["rice", "peas"])),
        (["--salted", "--dish", "soup"], 0, Order(dish="soup", salted=True)),
        ([], 2, None),
        (["--dish", "soup", "--dessert", "cake"], 2, None),
    ],
)
def test_a_command_gets_its_options_as_one_record(arguments: list[str], code: int, order: Order | None) -> None:
    app, orders = typer.Typer(), list[Order]()

    @app.command()
    @with_options(Order)
    def serve(asked: Order) -> None:
        """Bring a dish."""
        orders.append(asked)

    assert CliRunner().invoke(app, arguments).exit_code == code
    assert orders == ([] if order is None else [order])
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "Bring a dish." in shown
    assert "What to eat." in shown


def test_a_selection_asked_for_by_nothing_but_its_budget_is_the_plan_of_that_budget() -> None:
    assert SelectRequest(budget_seconds=60.0).plan() == SelectPlan(budget_seconds=60.0)


def test_every_key_of_a_selections_plan_can_be_asked_for() -> None:
    changed = {
        "signal": "gap", "gamma": 2.0, "clusters": 7, "embedder": "lm", "probe_documents": 3, "floor": 0.1, "cap": 9.0,
        "max_cer": 0.4, "seed": 5, "allow_test_split": True,
    }  # fmt: skip
    plan = SelectRequest(budget_seconds=60.0, set_signal=["a=1"], set_embedder=["width=8"], **changed).plan()
    assert plan == SelectPlan(budget_seconds=60.0, signal_options={"a": 1}, embedder_options={"width": 8}, **changed)
    others = {field.name for field in dataclasses.fields(SelectPlan)} - set(changed)
    assert others == {"budget_seconds", "signal_options", "embedder_options", "hold_out_probes", "reserve"}
