"""baco recommend: the best items for users, by a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line, print_table
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.item_titles import Names, item_titles
from baco_gpu.errors import InputError

if TYPE_CHECKING:
    import pandas

    from baco_gpu.data.vocabulary import Vocabulary

_AT_ONCE = 4096  # users


@expanded
def recommend(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A file that `baco train --out` wrote. Seen items are those of the interactions that it keeps, of all "
            "parts of the data.",
            autocompletion=completion.files_of(".safetensors"),
        ),
    ],
    run: options.Printing,
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="ID", help="Raw id of a user; may be given several times.")
    ] = None,
    users_from: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text file of users, a raw id a line.")
    ] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Recommend to every user of the model.")] = False,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items for each user.")] = 20,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Keep items that a user has seen.")] = False,
    names: Names = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write user, rank, item and score (and name) to this .parquet or .csv file, a line an answer."
        ),
    ] = None,
) -> None:
    """Recommend to users the best items that they have not seen.

    \b
    Examples:
      baco recommend model.safetensors --user 196 --k 20
      baco recommend model.safetensors --user 196 --names movielens-100k
      baco recommend model.safetensors --users-from users.txt --json
      baco recommend model.safetensors --all-users --out answers.parquet
    """
    asked = {"--user": user, "--users-from": users_from, "--all-users": all_users}
    given = [name for name, value in asked.items() if value]
    if len(given) != 1:
        raise InputError(f"give one of {', '.join(asked)}, got {' and '.join(given) or 'none'}")
    options.check_output(out, is_table=True, others={"--users-from": users_from})
    texts = user if users_from is None else _lines(users_from)

    from baco_gpu.data.labels import write_frames
    from baco_gpu.experiment.model_file import load_recommender

    titles = item_titles(names)
    recommender = load_recommender(model)
    users = recommender.user_ids if not texts else _ids(texts, recommender.user_vocabulary)
    recommender.check_users(users)  # all of them, before any work

    def answers() -> Iterator[pandas.DataFrame]:
        with ProgressDisplay(hidden=run.silent or len(users) <= _AT_ONCE) as display:
            for start in range(0, len(users), _AT_ONCE):
                display.report("recommending", start, len(users), "")
                frame = recommender.recommend(users[start : start + _AT_ONCE], k, exclude_seen=not include_seen)
                yield frame if titles is None else frame.assign(name=[titles.get(item, "") for item in frame["item"]])
            display.report("recommending", len(users), len(users), "")

    if out is None:
        _print(answers(), run.json, str(model))
        return
    lines = write_frames(out, answers())
    if run.json:
        print_json({"written": str(out), "users": len(users), "answers": lines})
    else:
        print_line(f"written: {out} ({lines:,} answers for {len(users):,} users)")


def _print(frames: Iterator[pandas.DataFrame], as_json: bool, title: str) -> None:
    import pandas

    frame = pandas.concat(list(frames))
    if as_json:
        answers = [
            {"user": user, **{f"{column}s": own[column].tolist() for column in own if column not in ("user", "rank")}}
            for user, own in frame.groupby("user", sort=False)
        ]
        print_json({"recommendations": answers})
        return
    frame["score"] = frame["score"].map("{:.4f}".format)
    print_table(list(frame), frame.astype(str).to_numpy().tolist(), title=title)


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty; InputError where there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: expected a text file of users, but it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a text file of users in UTF-8, got other bytes") from error
    if not lines:
        raise InputError(f"{path}: expected a user a line, got none")
    return lines


def _ids(texts: list[str], vocabulary: Vocabulary | None) -> list[str] | list[int]:
    """Raw ids as the model has them; InputError for what is no integer where they are."""
    if vocabulary is not None and not vocabulary.is_integer:
        return texts
    odd = [text for text in texts if not text.removeprefix("-").isdecimal()]
    if odd:
        raise InputError(f"users of this model are integers, got {', '.join(map(repr, odd[:5]))}")
    return [int(text) for text in texts]
