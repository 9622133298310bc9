"""baco compress-model and expand-model: the tables of somebody's trained model, made small in its file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line, print_table
from baco_gpu.cli.groups import expanded

_SUFFIX = ".safetensors"


def _budget(text: str) -> float:
    try:
        return options.share(str(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number or share such as 13%.") from None


@expanded
def compress_model(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A .safetensors file, a state_dict of torch.save (.pt, .pth, .bin, .ckpt), or a folder with "
            "config.json and model.safetensors, or an index of its parts.",
            autocompletion=completion.files_of(".safetensors", ".pt", ".pth", ".bin", ".ckpt"),
        ),
    ],
    source: options.Source,
    run: options.Configured,
    budget: Annotated[
        float, typer.Option(parser=_budget, metavar="SHARE", help="Share of the tables' bytes, 0.13 or 13%.")
    ] = 0.13,
    out: Annotated[Path | None, typer.Option(help="Write the compressed model to this .safetensors file.")] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN,...",
            help="Names of the embedding tables, or patterns such as *item*.",
            show_default="matrices whose names have 'emb' in them",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="How tables may be stored: product, trellis, quantized, or baco-multilevel (with --data).",
            autocompletion=completion.several_of("baco_gpu.pretrained.model_compression:METHODS"),
            show_default="whichever errs least",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Interactions, whose ids are the numbers of rows: how often each is looked up."
        ),
    ] = None,
    users: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table of users.", show_default="the one named so")
    ] = None,
    items: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table of items.", show_default="the one named so")
    ] = None,
) -> None:
    """Make the embedding tables of a trained model small, without training, and report the loss.

    The file has small tables and all else that the model has: load_compressed of baco_gpu.pretrained puts them into the
    model, load_codebooks of baco_gpu.serving looks them up with NumPy, and expand-model makes plain tables of them.

    \b
    Examples:
      baco compress-model model.safetensors --budget 0.13 --out small.safetensors
      baco compress-model checkpoint.pt --tables "*_embedding" --data clicks.parquet --json
    """
    options.check_output(out, _SUFFIX, others={"MODEL": model})
    patterns = None if tables is None else options.words(tables)
    methods = None if method is None else options.words(method)

    from baco_gpu.methods.registry import current_name
    from baco_gpu.pretrained.model_compression import compress_model as compress

    with ProgressDisplay(hidden=run.silent) as display:
        compressed = compress(
            model,
            budget,
            tables=patterns,
            data=None if data is None else source.interactions(data, run.seed, display.report),
            users=users,
            items=items,
            methods=None if methods is None else [current_name(name) for name in methods],
            seed=run.seed,
            progress=display.report,
        )
        if out is not None:
            compressed.save(out)
    report = compressed.report
    assert report is not None
    if run.json:
        print_json({**report.summary(), "written": None if out is None else str(out)})
        return
    header, *lines = report.lines()
    print_table(list(header), [list(line) for line in lines], title=f"tables of {model}")
    print_line(report.verdict)
    if out is not None:
        print_line(f"written: {out} ({out.stat().st_size:,} bytes)")


@expanded
def expand_model(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A file that `baco compress-model --out` wrote.",
            autocompletion=completion.files_of(_SUFFIX),
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    run: options.Printing,
) -> None:
    """Write a compressed model back with plain tables, for any program.

    The rows are those that the small tables give: what was lost does not come back.

    \b
    Examples:
      baco expand-model small.safetensors model.safetensors
    """
    options.check_output(out, _SUFFIX, others={"MODEL": model})

    from baco_gpu.pretrained.compressed_model import load_compressed

    compressed = load_compressed(model)
    compressed.save_expanded(out)
    size = out.stat().st_size
    if run.json:
        print_json({"written": str(out), "tables": list(compressed.tables), "bytes": size})
    else:
        print_line(f"written: {out} ({len(compressed.tables)} tables of plain rows, {size:,} bytes)")
