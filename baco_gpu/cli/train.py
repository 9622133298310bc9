"""baco train: from interactions to a trained, compressed recommender."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco_gpu.atomic import make_folder
from baco_gpu.cli import options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_pairs
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.launched import RANK_TIMEOUT, RankTimeout, launched, restarted
from baco_gpu.cli.model_options import own_options
from baco_gpu.cli.option_checks import check_heeded, current_names
from baco_gpu.cli.settings_file import write_settings
from baco_gpu.errors import InputError
from baco_gpu.stopwatch import PHASE

if TYPE_CHECKING:
    from baco_gpu.data.interactions import SplitInteractions
    from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering


@expanded
def train(
    context: typer.Context,
    data: options.Data,
    source: options.Source,
    clustering: options.Clustering,
    training: options.Training,
    run: options.Run,
    method: Annotated[
        str | None,
        options.choice(
            "Tables: product, trellis, quantized, affinity or bisecting (ours), full, or another of `baco methods`.",
            "baco_gpu.methods.registry:NAMES",
            show_default="product, below a twelfth trellis; of integers quantized (bytes) or affinity (parameters); "
            "of --codes baco-multilevel",
        ),
    ] = None,
    codes: Annotated[
        Path | None, typer.Option(help="Use the labels of this file (baco compress --out) instead of clustering.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the trained model, raw ids and interactions, by which `baco recommend` answers, to this "
            ".safetensors file."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the compressed tables, for serving, to this .safetensors file."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Keep the run in this file, to resume from; that of sharded tables in this folder."),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Epochs from one checkpoint to the next.")] = 1,
    tensorboard: Annotated[Path | None, typer.Option(help="Write curves for TensorBoard into this folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --checkpoint, to the same result.")] = False,
    rank_timeout: RankTimeout = RANK_TIMEOUT,
) -> None:
    """Train a recommender over compressed tables (or the full ones) and rank the test items.

    Data that comes with a split keeps it; anything else is split 80/10/10 at random. Where torchrun starts several
    processes, they divide every batch and every ranking, and the first one writes; started again after a failure, they
    go on from --checkpoint.

    \b
    Examples:
      baco train movielens-100k --budget 0.25 --out model.safetensors
      baco train clicks.npz --model mf --method full --json
      baco train clicks.npz --checkpoint run.safetensors --resume
      torchrun --nproc-per-node 2 -m baco_gpu train clicks.npz --out model.safetensors
      torchrun --nproc-per-node 4 -m baco_gpu train clicks.npz --model mf --method full:sharded
    """
    from baco_gpu.methods.registry import find_method

    estimator = clustering.estimator(run)
    if method is None:
        method = "baco-multilevel" if codes is not None else _default_method(estimator)
    (method,) = current_names([method])
    settings = training.settings(run)
    options.check_output(out, ".safetensors", others={"--codes": codes})
    options.check_output(export, ".safetensors", others={"--codes": codes, "--out": out})
    if tensorboard is not None:
        make_folder(tensorboard)
    sharded = find_method(method).sharded
    if sharded and checkpoint is not None:
        make_folder(checkpoint)
    elif not sharded:
        options.check_output(checkpoint, others={"DATA": data, "--codes": codes, "--out": out, "--export": export})
    if resume and checkpoint is None:
        raise InputError("--resume needs the --checkpoint to go on from, got none")

    from baco_gpu import experiment
    from baco_gpu.estimator.coclustering_result import CoclusteringResult
    from baco_gpu.models import find_model
    from baco_gpu.tables.sharded import gather_tables
    from baco_gpu.training import Callback, ShardedCheckpoint
    from baco_gpu.training.checkpoint import Checkpoint
    from baco_gpu.training.tensorboard import TensorBoardLogger

    experiment.check_names(method=method, model=training.model)
    check_heeded(context, [method], training.loss, clustered=codes is not None)
    own = own_options(context, [training.model])
    sides = find_model(training.model).table_names
    experiment.check_budget(method, estimator, sides)
    if export is not None and not find_method(method).served:
        raise InputError(f"--export writes codebooks, and method {method!r} has none to serve")
    result = None if codes is None else CoclusteringResult.load(codes)

    def write() -> list[Path]:
        written = []
        if out is not None:
            written += [experiment.save_model(outcome, out), write_settings(context, out)]
        if export is not None:
            written.append(experiment.export_tables(outcome, export))
        return written

    with launched(training.device if training.device.startswith("cuda") else "cpu", rank_timeout) as ranks:
        if ranks is not None:
            from baco_gpu.distributed.coclustering import agree_on

            files = {"codes": codes, "out": out, "export": export, "checkpoint": checkpoint}
            asked = {name: path and str(path) for name, path in files.items()}
            asked |= {"command": "train", "data": data, "method": method, "resume": str(resume)}
            asked["checkpoint_every"] = str(checkpoint_every)
            of_all = {name: value for name, value in asdict(training).items() if name != "device"}
            agree_on({**asked, **asdict(source), **of_all, **own, **estimator.get_params()}, ranks)
        first = ranks is None or ranks.rank == 0
        callbacks: list[Callback] = []
        if tensorboard is not None and first:
            callbacks.append(TensorBoardLogger(tensorboard))
        if checkpoint is not None:
            if sharded:
                group = None if ranks is None else ranks.group
                kept: Checkpoint | ShardedCheckpoint = ShardedCheckpoint(
                    checkpoint, checkpoint_every, process_group=group
                )
            else:
                kept = Checkpoint(checkpoint, checkpoint_every)
            kept.resume = resume or (restarted() and kept.exists)
            callbacks.append(kept)
        with ProgressDisplay(hidden=run.silent or not first) as display:

            def read() -> SplitInteractions:
                split = source.parts(data, run.seed, display.report)
                find_model(training.model).check_data(split)
                return split

            split = read() if ranks is None else ranks.together(read)
            compression = experiment.compress(
                split, method, estimator, result=result, sides=sides, progress=display.report, ranks=ranks
            )
            if export is not None:
                compression.check_export()
            if out is not None:
                compression.check_save()
            outcome = experiment.run(
                split,
                compression,
                training.model,
                settings,
                options=own,
                progress=display.report,
                callbacks=callbacks,
                ranks=ranks,
            )
            if out is not None:
                gather_tables(outcome.model)
        written = write() if ranks is None else ranks.together(lambda: write() if first else [])
    if not first:
        return

    summary, full = outcome.summary(), compression.full
    if run.json:
        print_json(summary)
        return
    print_pairs(
        {
            "rows": f"{summary['codebook_rows']:,} (full: {full.full_rows:,})",
            "parameters": f"{summary['parameters']:,} (full: {summary['parameters_full']:,}; "
            f"{1 - summary['compression']:.2%} of it)",
            "bytes": f"{summary['bytes']:,} (full: {summary['bytes_full']:,}; "
            f"{summary['bytes'] / summary['bytes_full']:.2%} of it)",
            "epochs": f"{summary['epochs']} (best on validation: {summary['best_epoch']})",
            **{
                name: f"test {value:.4f}, validation {outcome.training.validation[name]:.4f}"
                for name, value in outcome.training.test.items()
            },
            "seconds": f"clustering {summary['seconds_clustering']:.2f}, training {summary['seconds_training']:.1f}, "
            f"evaluation {summary['seconds_evaluation']:.1f}"
            + (f", {PHASE} {summary['seconds_compiling']:.1f}" if summary["seconds_compiling"] else ""),
            **({"written": ", ".join(map(str, written))} if written else {}),
        },
        title=f"{training.model} on {data}, method {method}",
    )


def _default_method(clustering: BalancedCoclustering) -> str:
    from baco_gpu.budget import SideBudgets, budget_of
    from baco_gpu.methods.trellis_plan import is_small
    from baco_gpu.precision import FLOAT

    budget = None if clustering.budget is None else budget_of(clustering.budget, clustering.budget_measure)
    if clustering.codebook_dtype in (None, FLOAT):
        return "trellis" if is_small(budget) else "product"
    if budget is not None and budget.is_share_of_bytes:
        return "quantized"
    return "bisecting" if isinstance(budget, SideBudgets) else "affinity"
