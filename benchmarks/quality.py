"""Recall at equal budgets: one recommender over the tables of several methods, trained to its best epoch.

    python -m benchmarks.quality DATA --budget-rows 7980 --epochs 60 --out benchmarks/results/quality-beauty.csv

One CSV row a method: what it costs, its validation recall at the best epoch, and the test figures of those weights.
Rows are appended as they are finished; a method that the file has already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from baco_gpu import experiment
from baco_gpu.data.readers import load_split
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.training.settings import TrainingSettings
from benchmarks.machine import describe_machine

# name in the table -> method of the experiment, and how it clusters
METHODS = {
    "full": ("full", {}),
    "random": ("random", {}),
    "louvain": ("louvain", {}),
    "paper": ("baco-multilevel", {"solver": "paper"}),
    "ours without secondary": ("baco-multilevel", {"secondary": "none"}),
    "ours": ("baco-multilevel", {}),
}
METRICS = ("recall@20", "recall_capped@20", "ndcg@20", "recall@10", "recall@50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--budget-rows", type=int, required=True)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--gamma", type=float, nargs="*", default=[], help="also ours at these resolutions")
    parser.add_argument("--model", default="lightgcn")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--patience", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--evaluate-every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    split = load_split(arguments.data, seed=arguments.seed)
    settings = TrainingSettings(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        loss="bpr",
        patience=arguments.patience,
        evaluate_every=arguments.evaluate_every,
        seed=arguments.seed,
    )
    chosen = {name: METHODS[name] for name in arguments.methods.split(",") if name}
    chosen |= {f"ours, gamma {gamma:g}": ("baco-multilevel", {"gamma": gamma}) for gamma in arguments.gamma}
    done = _methods_in(arguments.out)
    for name, (method, parameters) in chosen.items():
        if name in done:
            continue
        clustering = BalancedCoclustering(budget=arguments.budget_rows, random_state=arguments.seed, **parameters)
        compression = experiment.compress(split, method, clustering)
        outcome = experiment.run(split, compression, arguments.model, settings)
        row = _row(name, outcome, arguments)
        _append(arguments.out, row)
        print(", ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)


def _row(name: str, outcome: experiment.Outcome, arguments: argparse.Namespace) -> dict[str, object]:
    summary, result = outcome.summary(), outcome.compression.result
    at_ten = next((record.validation for record in outcome.training.history if record.epoch == 10), None)
    return {
        "data": Path(arguments.data).stem,
        "model": arguments.model,
        "method": name,
        "gamma": "" if result is None else f"{result.gamma:.4g}",
        "rows": summary["codebook_rows"],
        "parameters": summary["parameters"],
        "bytes": summary["bytes"],
        "largest_user_cluster": "" if result is None else result.summary()["largest_user_cluster"],
        "epochs": summary["epochs"],
        "best_epoch": summary["best_epoch"],
        "validation_recall@20_epoch_10": "" if not at_ten else f"{at_ten['recall@20']:.4f}",
        "validation_recall@20": f"{summary['validation']['recall@20']:.4f}",
        **{metric: f"{summary[metric]:.4f}" for metric in METRICS},
        "seconds_clustering": f"{summary['seconds_clustering']:.2f}",
        "seconds_training": f"{summary['seconds_training']:.1f}",
        "batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        **describe_machine(),
    }


def _methods_in(path: Path) -> set[str]:
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {row["method"] for row in csv.DictReader(file)}


def _append(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
