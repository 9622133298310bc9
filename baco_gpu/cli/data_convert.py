"""baco data convert: interactions from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line
from baco_gpu.cli.groups import expanded


@expanded
def convert(
    data: options.Data,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="What to write: .csv, .tsv, .inter, .parquet, .feather, .txt (LightGCN), .npz (a split), or a folder "
            "for train.txt and test.txt.",
        ),
    ],
    source: options.Source,
    run: options.Configured,
) -> None:
    """Write interactions in another format, with their raw ids where the format can hold them.

    Of what a table has beside users and items, weights come along with --weight-column (or --weighting) and timestamps
    with --timestamp-column. A split, given or asked for, is written to an .npz file, to a folder, or as the column
    `part` of a table.

    \b
    Examples:
      baco data convert ratings.dat clicks.parquet --min-rating 4 --timestamp-column timestamp
      baco data convert clicks.csv clicks.npz --core 10 --split leave-last-out
    """
    from baco_gpu.data.interactions import Interactions
    from baco_gpu.data.readers import has_split
    from baco_gpu.data.writing import check_target, write_interactions

    splits = source.split is not None or has_split(data)
    options.check_differs(out, {"DATA": data})
    check_target(out, has_split=splits)
    with ProgressDisplay(hidden=run.silent) as display:
        read = source.parts if splits else source.interactions
        interactions = read(data, run.seed, display.report)
        losses = write_interactions(out, interactions)
    whole = interactions if isinstance(interactions, Interactions) else interactions.train
    count = len(interactions) if isinstance(interactions, Interactions) else sum(map(len, interactions.parts))
    if run.json:
        sizes = {"num_users": whole.num_users, "num_items": whole.num_items, "num_interactions": count}
        print_json({"written": str(out), **sizes, "left_out": losses})
        return
    print_line(f"{out}: {count:,} interactions of {whole.num_users:,} users and {whole.num_items:,} items")
    for loss in losses:
        print_line(f"note: {loss}", err=True)
