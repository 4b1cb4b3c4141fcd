"""The command ``salad``. Exit codes: 0 done, 1 the run failed, 2 what the user wrote is wrong, 3 a limit of ``--fail-if`` holds,
130 stopped by Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from salad_eval import plugins
from salad_eval.cli.check import check_command
from salad_eval.cli.doctor import doctor_command
from salad_eval.cli.items import items_command, rescore_command
from salad_eval.cli.lm_eval import LM_EVAL_CONTEXT, from_lm_eval_command, lm_eval_command, to_lm_eval_command
from salad_eval.cli.plugins import plugins_app
from salad_eval.cli.report import board_command, compare_command, report_command
from salad_eval.cli.run import run_command
from salad_eval.cli.share import card_command, export_command, import_command
from salad_eval.cli.speech import render_command, transcribe_command
from salad_eval.cli.store import store_app
from salad_eval.cli.tasks import tasks_app
from salad_eval.cli.voices import voices_command
from salad_eval.errors import SaladError
from salad_eval.pipeline.allocator import keep_freed_memory
from salad_eval.progress import quiet_libraries

GO_ON = ("run", "loop", "train", "synthesise", "nano", "check")  # commands that go on where they were stopped
INTERRUPTED = 130
OURS = "salad-gap"

# --- commands of plug-ins --------------------------------------------------------------------------------------------


class PluginCommand(TyperCommand):
    """A command of the group ``salad.commands``, imported when it is called and not before: a broken one breaks only itself."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        app = plugins.load("salad.commands", str(self.name))
        return typer.main.get_command(app).make_context(info_name, args, parent=parent, **extra)


class PluginGroup(TyperGroup):
    """The commands of this package and then those of plug-ins. Ctrl-C says what is kept."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            name = ctx.invoked_subcommand or ""
            kept = " What was finished is kept: the same command goes on from there." if name in GO_ON else ""
            print(f"\nsalad {name}: stopped.{kept}", file=sys.stderr)
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(info.name for info in plugins.available("salad.commands") if info.name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for info in plugins.available("salad.commands"):
            if info.name == cmd_name:
                return PluginCommand(cmd_name, help=_what_it_does(info))
        return None


def _what_it_does(info: plugins.PluginInfo) -> str:
    """What our own commands say of themselves; of another package's, which is not imported for that, where it comes from."""
    if info.package == OURS:
        with contextlib.suppress(SaladError):
            command = typer.main.get_command(plugins.load("salad.commands", info.name))
            return command.help or f"{info.name}: see salad {info.name} --help."
    return f"Commands of {info.package} ({info.target.partition(':')[0]})."


app = typer.Typer(
    name="salad",
    cls=PluginGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: brackets are text, and names to copy are whole
    help="Where, why and by how much a speech LLM understands less than the text LLM it came from.",
)
app.add_typer(tasks_app, name="tasks")
app.add_typer(plugins_app, name="plugins")
app.add_typer(store_app, name="store")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``salad``: every error is one message, without a traceback unless ``--debug`` asks for it."""
    args = list(sys.argv[1:] if argv is None else argv)
    _spin_shortly()
    keep_freed_memory()
    quiet_libraries()
    debug = "--debug" in args  # looked for here too, so that it may stand behind the command
    args = [arg for arg in args if arg != "--debug"]
    try:
        app(args=args, prog_name="salad")
    except Exception as error:
        if debug:
            raise
        message, code = _explained(error, next((arg for arg in args if not arg.startswith("-")), ""))
        print(_printable(f"salad: {message}"), file=sys.stderr)
        sys.exit(code)


def _spin_shortly() -> None:
    """Before torch is imported: a thread of OpenMP (GNU's, which torch brings along on Linux) that waits sleeps after a few microseconds
    instead of milliseconds, in which it takes the core from whatever else runs."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _explained(error: Exception, command: str) -> tuple[str, int]:
    """What is said of an error, and the code that the command ends with."""
    if isinstance(error, SaladError):
        return str(error), error.exit_code
    # Any step may be the one that fills the disk, and libraries say so in classes of their own.
    if _is_full_disk(error):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return (
            f"no space left on the disk{where}. What was finished before stands: make room, and the same command goes on "
            "from there.",
            1,
        )
    if isinstance(error, OSError) and error.filename:
        named = str(error.filename)
        shown = named if len(named) <= _NAME_SHOWN else f"{named[:_NAME_SHOWN]}… ({len(named)} characters)"
        return f"{command}: {shown}: {error.strerror or error}.", 2 if error.errno == errno.ENAMETOOLONG else 1
    said = " ".join(str(error).split())[:_SAID] or "no message"
    notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    return (
        f"{command}: {type(error).__name__} in {_where(error)}: {said}.{notes} This should have been a sentence about what to mend, and "
        "is a fault of the program or a plug-in: the same command with --debug shows where.",
        1,
    )


_NAME_SHOWN, _SAID = 120, 300  # characters


def _where(error: BaseException) -> str:
    """The module and function that the error came through last of ours; and, where it lies deeper, the one that raised it."""
    ours, last = "", ""
    frame = error.__traceback__
    while frame is not None:
        last = f"{frame.tb_frame.f_globals.get('__name__', '?')}.{frame.tb_frame.f_code.co_name}"
        if last.startswith(("salad_eval.", "salad_train.")) and not last.startswith("salad_eval.cli.main."):
            ours = last
        frame = frame.tb_next
    return ours if ours in ("", last) and ours else f"{ours} (raised by {last})" if ours else last


def _printable(text: str) -> str:
    from salad_eval.report.wording import printable

    return printable(text)


_FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def _is_full_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL_DISK:
            return True
        if os.strerror(errno.ENOSPC) in str(error):  # safetensors' own class, for one
            return True
        error = error.__cause__ or error.__context__
    return False


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"salad-gap {version('salad-gap')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Where, why and by how much a speech LLM understands less than the text LLM it came from."""


app.command("run")(run_command)
app.command("report")(report_command)
app.command("compare")(compare_command)
app.command("check")(check_command)
app.command("board")(board_command)
app.command("items")(items_command)
app.command("rescore")(rescore_command)
app.command("doctor")(doctor_command)
app.command("render")(render_command)
app.command("voices")(voices_command)
app.command("transcribe")(transcribe_command)
app.command("export")(export_command)
app.command("import")(import_command)
app.command("card")(card_command)
app.command("lm-eval", context_settings=LM_EVAL_CONTEXT, add_help_option=False)(lm_eval_command)
app.command("from-lm-eval")(from_lm_eval_command)
app.command("to-lm-eval")(to_lm_eval_command)

if __name__ == "__main__":
    main()
