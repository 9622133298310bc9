"""The errors that baco_gpu raises on purpose. Each message is one line: what was expected, and what came."""


class BacoError(Exception):
    """Base of every error that baco_gpu raises on purpose."""


class InputError(BacoError, ValueError):
    """An argument, a file or a graph is not what it must be."""


class UnreachableBudgetError(InputError):
    """A budget is one that a method cannot be brought to on this graph."""


class Interrupted(BacoError):  # noqa: N818 - a wish of the user, which the message says what became of
    """Ctrl-C ended work of which a part is kept."""


class BackendUnavailableError(BacoError, RuntimeError):
    """The backend that was asked for cannot run on this machine."""


class DeviceLostError(BacoError, RuntimeError):
    """A GPU has failed amid work, and can be used again by another process alone."""


class RankError(BacoError, RuntimeError):
    """Another of the processes that work together has failed; the message says which, and why."""


class MissingExtraError(BacoError, ImportError):
    """A package of an optional extra is needed and not installed."""


# What libraries raise over the content of a damaged file, where they were written for whole ones.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    MemoryError,
    RuntimeError,  # also RecursionError and NotImplementedError
)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, by itself or as a compiled loop hands it on.

    Numba lets a loop end as it should and makes a SystemError of the interrupt, at each of its layers that sees it.
    """
    while isinstance(error, SystemError):
        error = error.__cause__
    return isinstance(error, KeyboardInterrupt)


def brief(error: BaseException) -> str:
    """The first line of a library's message, to stand inside one of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def one_line(error: BaseException) -> str:
    """All of a library's message on one line; the kind of an error that has none."""
    return " ".join(str(error).split()) or type(error).__name__


def damage(error: BaseException) -> str:
    """What is wrong with a file; the kind of the error is told where its text says little, as a KeyError's does."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
