"""The command `baco`: the commands put together, and how errors end."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

import baco_gpu
from baco_gpu.atomic import noting_written
from baco_gpu.cli.bench import bench
from baco_gpu.cli.compare import compare
from baco_gpu.cli.compress import compress
from baco_gpu.cli.compress_model import compress_model, expand_model
from baco_gpu.cli.data_convert import convert
from baco_gpu.cli.data_describe import describe
from baco_gpu.cli.data_fetch import fetch
from baco_gpu.cli.env import env
from baco_gpu.cli.inspect import inspect
from baco_gpu.cli.launched import check_alone
from baco_gpu.cli.methods import methods
from baco_gpu.cli.model_options import ModelCommand
from baco_gpu.cli.plain_help import PlainCommand, PlainGroup
from baco_gpu.cli.recommend import recommend
from baco_gpu.cli.report import report
from baco_gpu.cli.train import train
from baco_gpu.errors import BacoError, DeviceLostError, Interrupted, RankError, is_interrupt
from baco_gpu.visible import visible

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130

# Commands that share their work where several processes are launched together.
_SHARED = ("compress", "train")

app = typer.Typer(
    name="baco",
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    compress,
    train,
    recommend,
    compress_model,
    expand_model,
    compare,
    methods,
    inspect,
    report,
    bench,
    env,
):
    app.command(cls=ModelCommand if command in (train, compare) else PlainCommand)(command)
data = typer.Typer(cls=PlainGroup, no_args_is_help=True)
for command in (describe, convert, fetch):
    data.command(cls=PlainCommand)(command)
app.add_typer(data, name="data")


@data.callback()
def _data() -> None:
    """Describe, convert and fetch interactions.

    \b
    Examples:
      baco data describe clicks.parquet --plot degrees.png
      baco data convert ratings.dat clicks.parquet --min-rating 4
      baco data fetch
    """


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"baco_gpu {baco_gpu.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Make the embedding tables of recommenders small, by co-clusters and product codes.

    Results go to stdout, everything else to stderr. NO_COLOR in the environment turns colours off.

    \b
    Examples:
      baco compress clicks.parquet --budget 0.25 --out codes.safetensors
      baco train movielens-100k --budget 0.25
      baco --install-completion     for TAB to complete options, values and data

    \b
    Exit codes:
      0    done
      1    a failure, such as a full disk
      2    a mistake in the command line or in the data
      130  interrupted by Ctrl-C
    """
    if context.invoked_subcommand not in _SHARED:
        check_alone(str(context.invoked_subcommand))


def run() -> None:
    """Entry point: exit code 0 for success, 2 for a user's mistake, 1 for a failure, 130 for Ctrl-C."""
    # Threads that wait for work by spinning slow everything down several times over on a machine with other work to do.
    # OpenMP reads this when PyTorch or Numba first load it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("stdout", "stderr"):
        _open_for_any_text(name)
    arguments = sys.argv[1:]
    # Where the option stands does not matter: whoever debugs a command appends it.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = main(arguments, debug=debug)
        # From here on Ctrl-C finds nothing to tell of: where Python tears itself down it would print a traceback, or
        # be lost.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    except KeyboardInterrupt:
        if debug:
            raise
        code = INTERRUPTED
    if code in (FAILURE, INTERRUPTED) or os.environ.get("WORLD_SIZE", "1") != "1":
        # An interrupt amid an exec of a string (as in the imports of PyTorch) is remembered by Python as unhandled, no
        # matter who has caught it since, and an ordinary exit would then end by SIGINT instead of with the code. A
        # process group that has failed waits, as it is torn down, for ranks that are no more; and after success too a
        # thread of gloo now and then aborts a process that takes itself down in order. What lies on a GPU that is lost
        # cannot be given back, and would say so, array by array.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _open_for_any_text(name: str) -> None:
    """Let a stream take letters that its encoding lacks, as escapes; one that is closed takes anything to nowhere."""
    stream = getattr(sys, name)
    if stream is None:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the process)
    elif hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def main(arguments: list[str], *, debug: bool = False) -> int:
    """Run a command line and return its exit code; errors are one line on stderr, or raised with `debug`."""
    with noting_written() as written:
        return _main(arguments, debug, written)


def _main(arguments: list[str], debug: bool, written: list[Path]) -> int:
    try:
        code = app(arguments, standalone_mode=False)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()  # a full disk behind it is told of now, or by nobody
        return code if isinstance(code, int) else 0
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        message = _no_number(error, message, arguments) or message
        # Without any argument the help has been printed, and there is nothing to add.
        return _fail(message, USER_ERROR, error, debug) if message else USER_ERROR
    except (KeyboardInterrupt, typer.Abort, SystemError) as error:
        if isinstance(error, SystemError) and not is_interrupt(error):
            return _fail_by_fault(error, debug)
        return _fail(f"interrupted; {_left(written)}", INTERRUPTED, error, debug)
    except Interrupted as error:
        return _fail(str(error), INTERRUPTED, error, debug)
    except (DeviceLostError, RankError) as error:
        return _fail(f"{error}; {_left(written)}", FAILURE, error, debug)
    except BacoError as error:
        return _fail(str(error), USER_ERROR, error, debug)
    except OSError as error:
        full = " (no space is left on the device)" if error.errno == errno.ENOSPC else ""
        return _fail(f"{error}{full}; {_left(written)}", FAILURE, error, debug)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}", FAILURE, error, debug)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, of a GPU; PyTorch itself need not be loaded
            return _fail(f"not enough memory, a smaller --batch-size may fit: {error}", FAILURE, error, debug)
        return _fail_by_fault(error, debug)


def _no_number(error: Exception, message: str, arguments: list[str]) -> str | None:
    """What is said of a value that is no number: versions of Typer and Click differ, and leave it out."""
    kind = re.search(r"valid (integer|number|float)", message)
    options: list[str] = getattr(getattr(error, "param", None), "opts", [])
    for first, second in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = first.partition("=")
        if kind is not None and name in options:
            expected = "an integer" if kind[1] == "integer" else "a number"
            return f"{name} must be {expected}, got {(value if equals else second)!r}"
    return None


def _left(written: list[Path]) -> str:
    """What there is of a command that has failed."""
    files = [str(file) for file in written if file.exists()]
    return f"written before: {', '.join(files)}" if files else "no output was written"


def _fail(message: str, code: int, error: BaseException, debug: bool) -> int:
    if debug:
        raise error
    print(f"baco: error: {visible(' '.join(message.split()))}", file=sys.stderr)
    return code


def _fail_by_fault(error: Exception, debug: bool) -> int:
    """What nobody foresaw is a fault of ours, and said to be one."""
    what = f"{type(error).__name__}: {error}"
    return _fail(f"a fault of baco_gpu, please report it with the output of --debug: {what}", FAILURE, error, debug)
