"""The entry point `foretune`: the commands, and the one place where errors become messages and exit codes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from itertools import pairwise
from types import FrameType
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from foretune.cli import (
    audit,
    chat,
    collect,
    compare,
    config,
    data,
    decide,
    diagnose,
    doctor,
    evaluate,
    faq,
    init,
    plan,
    report,
    run,
    runs,
    train,
)
from foretune.cli.face import Answer, help_without_command, print_answer, print_error, wants
from foretune.errors import ConfigError, DoesNotFit, ForetuneError
from foretune.log import logger

__all__ = ["app", "main", "run_command"]

RUNS_DIR = "--runs-dir"
INTERRUPTED = 130

app = typer.Typer(
    name="foretune",
    help="Know before you tune: audit data, predict time and cost, fine-tune, and test against the prompted base.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here:  foretune init json-extract demo   then   foretune run demo/job.toml",
)

for verb in (init, run, plan, decide, audit, train, evaluate, diagnose, compare, report, chat, doctor, faq):
    app.command(context_settings=getattr(verb, "CONTEXT_SETTINGS", None))(verb.command)
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(collect.app, name="collect")


def _print_version(wanted: bool) -> None:
    if wanted:
        from foretune import __version__

        typer.echo(f"foretune {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Know before you tune: audit data, predict time and cost, fine-tune, and test against the prompted base."""
    help_without_command(context)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    _share_the_processor()
    sys.exit(run_command(sys.argv[1:]))


def _share_the_processor() -> None:
    """Let threads sleep while they wait for each other.

    OpenMP lets them spin, which gains 3 % on idle cores and costs two to twenty times on busy ones. Read when torch is
    first imported, by this process and those that it starts; a value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Prints the answer on stdout, everything else on stderr."""
    as_json, debug, stdout = wants("--json", arguments), wants("--debug", arguments), sys.stdout
    _log_to_stderr()
    try:
        with redirect_stdout(sys.stderr) if as_json and "--help" not in arguments else nullcontext():
            result = get_command(app)(args=list(arguments), prog_name="foretune", standalone_mode=False)
        if isinstance(result, Answer):
            answer = replace(result, next=_there(result.next, arguments))
            print_answer(answer, as_json=as_json, stdout=stdout)
            return answer.exit_code
        if result == INTERRUPTED:  # Typer turns KeyboardInterrupt into this code
            print("interrupted", file=sys.stderr)
        return int(result or 0)
    except (ForetuneError, TyperException, OSError, MemoryError) as error:
        _show_traceback(debug)
        return print_error(_as_known(error), as_json=as_json, stdout=stdout)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the last line of defence: a fault of ours becomes exit 1 with a way to tell us
        _show_traceback(debug)
        return print_error(_our_fault(error, arguments), as_json=as_json, stdout=stdout)


def _there(command: str, arguments: Sequence[str]) -> str:
    """The next command with the `--runs-dir` that this one was given, where it knows that option."""
    given = next((f"{one}={two}" for one, two in pairwise([*arguments, ""]) if one == RUNS_DIR and two), "")
    given = given or next((word for word in arguments if word.startswith(f"{RUNS_DIR}=")), "")
    if not given or "#" in command or RUNS_DIR in command or not command.startswith("foretune "):
        return command
    found: Any = get_command(app)
    for word in shlex.split(command)[1:]:
        if word not in getattr(found, "commands", {}):
            break
        found = found.commands[word]
    knows = any(RUNS_DIR in parameter.opts for parameter in found.params)
    return f"{command} {RUNS_DIR} {shlex.quote(given.partition('=')[2])}" if knows else command


def _show_traceback(debug: bool) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)


def _as_known(error: Exception) -> ForetuneError:
    """What the machine or the parser said, as one of our errors."""
    if isinstance(error, ForetuneError):
        return error
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        return ConfigError(error.format_message(), fix=f"{context.command_path if context else 'foretune'} --help")
    if isinstance(error, MemoryError):
        return DoesNotFit("out of memory", fix="foretune plan JOB   # shows what needs how much")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DoesNotFit(f"the disk is full: {error.filename or error}", fix="free space, then repeat the command")
    what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return ForetuneError(what, fix="check the path and its permissions")


def _our_fault(error: Exception, arguments: Sequence[str]) -> ForetuneError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"unexpected {type(error).__name__}: {error} ({last.name}, line {last.lineno}); this is a fault of foretune"
    return ForetuneError(what, fix=f"foretune {' '.join(arguments)} --debug   # shows where, for a bug report")


def _log_to_stderr() -> None:
    if not any(getattr(handler, "foretune", False) for handler in logger.handlers):
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("note: %(message)s"))
        logger.addHandler(handler)


class _StderrHandler(logging.Handler):
    """Writes to whatever sys.stderr is now."""

    foretune = True

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)
