"""baco compare: a grid of methods, budgets, models and seeds on one split; tables and pictures of what came out."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baco_gpu.atomic import make_folder
from baco_gpu.cli import completion, options
from baco_gpu.cli.console import ProgressDisplay, print_json, print_line, print_table
from baco_gpu.cli.groups import expanded
from baco_gpu.cli.model_options import own_options
from baco_gpu.cli.option_checks import check_heeded, current_names
from baco_gpu.cli.settings_file import write_settings
from baco_gpu.errors import InputError, Interrupted, is_interrupt

if TYPE_CHECKING:
    from baco_gpu.data.interactions import SplitInteractions
    from baco_gpu.experiment.grid import GridOutcome
    from baco_gpu.experiment.trial_store import TrialStore
    from baco_gpu.experiment.trials import Trial
    from baco_gpu.progress import Progress

PRESETS = ("published",)
FULL = "full"
METHODS = (FULL, "random", "baco-multilevel", "bisecting", "affinity")
PRODUCT, QUANTIZED = "product", "quantized"


def _apply_preset(context: typer.Context, preset: str | None) -> str | None:
    """Make the settings of the preset the defaults of this command."""
    if preset is not None and not context.resilient_parsing:
        from baco_gpu.checks import check_choice
        from baco_gpu.experiment.published import TRAINING

        check_choice("preset", preset, PRESETS)
        context.default_map = {**TRAINING, **(context.default_map or {})}
    return preset


@expanded
def compare(
    context: typer.Context,
    data: options.Data,
    source: options.Source,
    clustering: options.Clustering,
    training: options.Training,
    run: options.Run,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, comma-separated: full, product, affinity, bisecting and others of `baco methods`.",
            autocompletion=completion.several_of("baco_gpu.methods.registry:NAMES"),
            show_default=f"{','.join(METHODS)},{PRODUCT}; {QUANTIZED} too where budgets are of bytes",
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Budgets, comma-separated: shares of the full table, numbers of rows, or users=..,items=.. of either.",
            show_default="--budget",
        ),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Recommenders, comma-separated, as of --model.", show_default="--model")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds of clustering and training, comma-separated.", show_default="--seed"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            callback=_apply_preset,
            is_eager=True,
            help="published: the BACO paper's training and, on its sets, its budget, as defaults of other options.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep runs, tables and pictures in this folder; a finished run is not repeated."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and which are done, and run none.")] = False,
) -> None:
    """Train recommenders over the tables of several methods, and compare recall and size.

    With --out, a comparison can be stopped and continued, and several processes can share it.

    \b
    Examples:
      baco compare movielens-100k --epochs 40 --out demo
      baco compare gowalla.npz --methods full,louvain,affinity --budgets 0.05,0.1,0.25 --seeds 0,1,2 --out results
      baco compare beauty.npz --methods full,louvain,baco --preset published --out beauty
    """
    recommenders = [training.model] if models is None else options.words(models)
    chosen_seeds = [run.seed] if seeds is None else [_seed(word) for word in options.words(seeds)]
    estimator = clustering.estimator(run)
    settings = training.settings(run)
    given = clustering.budget is not None or clustering.budget_rows is not None
    if budgets is not None and given:
        raise InputError(f"give --budgets, or one of --budget and --budget-rows, got both ({budgets} beside it)")
    if budgets is None and estimator.budget is None:
        raise InputError("compare brings all methods to one budget: give --budget, --budget-rows or --budgets")
    shares = [estimator.budget or 0] if budgets is None else _budgets(budgets)
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"output {out}: expected a folder, got a file")

    from sklearn.base import clone

    from baco_gpu.budget import SideBudgets, budget_of
    from baco_gpu.experiment.compression import check_budget
    from baco_gpu.experiment.report_files import write_report
    from baco_gpu.experiment.trial_store import TrialStore
    from baco_gpu.experiment.trials import check_grid, plan
    from baco_gpu.methods.registry import find_method
    from baco_gpu.models import find_model
    from baco_gpu.precision import FLOAT

    spent = [budget_of(share, clustering.budget_measure) for share in shares]
    of_bytes = all(budget.is_share_of_bytes for budget in spent)
    floats = estimator.codebook_dtype in (None, FLOAT)  # product codes are another way to store rows
    default = [*METHODS, *[PRODUCT] * floats, *[QUANTIZED] * of_bytes]
    if any(isinstance(budget, SideBudgets) for budget in spent):
        default = [name for name in default if find_method(name).by_side or not find_method(name).takes_budget]
    names = default if methods is None else current_names(options.words(methods))
    check_grid(names, shares, recommenders, chosen_seeds)
    check_heeded(context, names, training.loss)
    own = own_options(context, recommenders)
    for name, share, model in itertools.product(names, shares, recommenders):
        check_budget(name, clone(estimator).set_params(budget=share), find_model(model).table_names)
    if out is not None and not dry_run:
        make_folder(out)
    with ProgressDisplay(hidden=run.silent) as display, tempfile.TemporaryDirectory() as scratch:
        split = source.parts(data, run.seed, display.report)
        for model in recommenders:
            find_model(model).check_data(split)
        title = Path(data).stem if Path(data).exists() else data
        if preset is not None and budgets is None and not given:
            shares = [_published_budget(title, split) or shares[0]]
        trials = plan(
            title,
            split,
            methods=names,
            budgets=shares,
            models=recommenders,
            seeds=chosen_seeds,
            clustering=estimator,
            training=settings,
            options=own,
        )
        if dry_run:
            _print_plan(trials, out, run.json)
            return
        outcome = _run(trials, split, TrialStore(out or Path(scratch)), out, display.report)
        rows, files = write_report(outcome.records, out)
        if out is not None and rows:
            files += [*_draw(rows, title, out), write_settings(context, out / "comparison.json")]
    if run.json:
        print_json({"data": title, "unfinished": outcome.unfinished, "table": rows, "runs": outcome.records})
        return
    _print_rows(rows, title)
    if outcome.unfinished:
        print_line(f"{outcome.unfinished} runs are left to another process")
    for file in files:
        print_line(f"written: {file}")


def _run(
    trials: list[Trial], split: SplitInteractions, store: TrialStore, out: Path | None, progress: Progress
) -> GridOutcome:
    from baco_gpu.experiment.grid import run_grid
    from baco_gpu.experiment.trial_store import is_kept

    try:
        return run_grid(trials, split, store, progress=progress)
    except (KeyboardInterrupt, SystemError) as error:
        if out is None or not is_interrupt(error):
            raise
        done = sum(is_kept(trial, out) for trial in trials)
        message = f"interrupted; {done} of {len(trials)} runs are kept in {out}, and the same command goes on"
        raise Interrupted(message) from None


def _draw(rows: list[dict[str, Any]], title: str, out: Path) -> list[Path]:
    """Draw what the rows allow."""
    from baco_gpu.atomic import replacing
    from baco_gpu.plots.comparison import figures_of

    figures = figures_of(rows, title)
    for name, figure in figures.items():
        with replacing(out / name) as temporary:
            figure.savefig(temporary, dpi=150, bbox_inches="tight")
    return [out / name for name in figures]


def _published_budget(data: str, split: SplitInteractions) -> float | None:
    """What the paper spends on this set, as a share of the full table; None for other sets."""
    from baco_gpu.experiment.published import published_budget

    rows, nodes = published_budget(data), split.num_users + split.num_items
    if rows is not None and rows >= nodes:
        raise InputError(
            f"preset published has {rows} codebook rows for {data}, more than the {nodes} users and items of these "
            "data: give --budget"
        )
    # The parameters of so many rows pay for secondary indices too. The excess keeps rounding from taking a row.
    return None if rows is None else (rows + 0.01) / nodes


def _print_plan(trials: list[Trial], out: Path | None, as_json: bool) -> None:
    from baco_gpu.experiment.trial_store import is_kept
    from baco_gpu.experiment.trials import budget_label

    done = [out is not None and is_kept(trial, out) for trial in trials]
    if as_json:
        print_json({"runs": [{"name": trial.name, "done": there} for trial, there in zip(trials, done, strict=True)]})
        return
    rows = [
        [trial.method, trial.model, budget_label(trial.budget) or "-", str(trial.seed), "done" if there else ""]
        for trial, there in zip(trials, done, strict=True)
    ]
    print_table(["method", "model", "budget", "seed", ""], rows, title=f"{len(trials)} runs, {sum(done)} done")


def _print_rows(rows: list[dict[str, Any]], title: str) -> None:
    several = len({row["model"] for row in rows}) > 1
    columns = ["method", *(["model"] if several else []), "rows", "params", "share of\nparams", "share of\nbytes"]
    columns += ["cluster\nseconds", "train\nseconds", "test recall\n@20", "of\nfull", "test ndcg\n@20", "seeds"]
    full = {row["model"]: row["recall@20"] for row in rows if row["seeds"] and row["method"] == FULL}
    lines = []
    for row in rows:
        cells = [row["method"], *([row["model"]] if several else [])]
        if row["seeds"]:
            cells += [f"{row['codebook_rows']:,.0f}", f"{row['parameters']:,.0f}"]
            cells += [f"{row['parameters'] / row['parameters_full']:.1%}", f"{row['bytes'] / row['bytes_full']:.1%}"]
            cells += [f"{row['seconds_clustering']:.2f}", f"{row['seconds_training']:.1f}"]
            best = full.get(row["model"])
            cells += [f"{row['recall@20']:.4f}", f"{row['recall@20'] / best:.1%}" if best else "-"]
            cells += [f"{row['ndcg@20']:.4f}", str(row["seeds"])]
        else:
            cells += ["-"] * (len(columns) - len(cells) - 1) + ["0"]
        lines.append(cells)
    print_table(columns, lines, title=title)
    for row in rows:
        if row["reason"]:
            print_line(f"{row['method']}: {row['reason']}")


def _budgets(text: str) -> list[Any]:
    """Budgets as the estimator takes them; a pair by side is two words, one for users and one for items."""
    read, left, budgets = options.by_side(options.share_or_rows, "share or number of rows"), options.words(text), []
    while left:
        count = 2 if "=" in left[0] else 1
        word, left = ",".join(left[:count]), left[count:]
        try:
            budgets.append(read(word))
        except typer.BadParameter as error:
            message = error.message.rstrip(".")
            raise InputError(f"budgets must be shares or numbers of rows, separated by commas: {message}") from None
    return budgets


def _seed(word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise InputError(f"seeds must be integers, separated by commas, got {word!r}") from error
