"""Grids of runs: what is planned, done once, kept, shared between processes, and made of it."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import re

import pytest

from baco_gpu.data.splits import random_split
from baco_gpu.data.synthetic import planted_coclusters
from baco_gpu.errors import InputError
from baco_gpu.estimator.balanced_coclustering import BalancedCoclustering
from baco_gpu.experiment.grid import run_grid
from baco_gpu.experiment.report_files import write_report
from baco_gpu.experiment.summary import aggregate, as_csv, as_markdown, order_agreement
from baco_gpu.experiment.trial_store import TrialStore, is_kept
from baco_gpu.experiment.trials import budget_label, plan
from baco_gpu.plots.comparison import budget_figure, comparison_figure, figures_of, lost_figure, seconds_figure
from baco_gpu.training.settings import TrainingSettings

pytestmark = pytest.mark.heavy("trains models")


@pytest.fixture(scope="module")
def split():
    interactions, _, _ = planted_coclusters(200, 120, 2500, 8, noise=0.1, seed=5)
    return random_split(interactions, (0.8, 0.1, 0.1), 0)


def trials_of(split, **grid):
    grid = {"methods": ["full", "random"], "budgets": [0.25], "models": ["mf"], "seeds": [0, 1], **grid}
    return plan(
        "planted",
        split,
        **grid,
        clustering=BalancedCoclustering(embedding_dim=8),
        training=TrainingSettings(epochs=1, batch_size=512, patience=None),
        options={"layers": 1},
    )


def test_a_run_is_named_by_what_it_depends_on(split):
    trials = trials_of(split, budgets=[0.25, 0.5, 60])
    assert len({trial.name for trial in trials}) == len(trials) == 2 * (1 + 3)
    assert [trial.method for trial in trials[:4]] == ["full", "random", "random", "random"]
    assert trials[0].budget is None
    assert trials[1].name.startswith("planted-mf-random-25-seed0-")
    assert [budget_label(value) for value in (None, 0.25, 60)] == ["", "25%", "60 rows"]
    assert {trial.name for trial in trials_of(split)} < {trial.name for trial in trials}
    interactions, _, _ = planted_coclusters(200, 120, 2500, 8, noise=0.1, seed=6)
    other = trials_of(random_split(interactions, (0.8, 0.1, 0.1), 0))
    assert not {trial.name for trial in other} & {trial.name for trial in trials}, "other data are other runs"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"methods": []}, "methods must be different values, at least one, got none"),
        ({"methods": ["full", "guessing"]}, "method must be one of full, "),
        ({"models": ["svd"]}, "model must be"),
        ({"budgets": [0.0]}, "budget must be"),
        ({"seeds": [-1]}, "seed must be"),
        ({"seeds": [1, 1]}, "seeds must be different values"),
    ],
)
def test_mistakes_are_found_before_any_run(split, grid, message):
    with pytest.raises(InputError, match=message):
        trials_of(split, **grid)


def test_a_finished_run_is_not_repeated_and_repeats_when_it_is(split, tmp_path):
    trials = trials_of(split)
    notes = []
    first = run_grid(trials, split, TrialStore(tmp_path), progress=lambda *words: notes.append(words))
    assert first.unfinished == 0
    assert [record["status"] for record in first.records] == ["done"] * 4
    assert any(phase == "runs" and "2 left, about" in note for phase, _, _, note in notes)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert run_grid(trials, split, TrialStore(tmp_path)).records == first.records
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == stamps
    again = run_grid(trials, split, TrialStore(tmp_path / "elsewhere"))
    measured = ("seconds_clustering", "seconds_training", "seconds_evaluation")
    for one, other in zip(first.records, again.records, strict=True):
        assert {k: v for k, v in one["figures"].items() if k not in measured} == {
            k: v for k, v in other["figures"].items() if k not in measured
        }


def test_a_run_that_was_kept_under_a_former_name_of_its_method_is_not_repeated(split, tmp_path):
    (trial,) = trials_of(split, methods=["low-dim"], seeds=[0])
    (former,) = trial.former
    assert former.name.startswith("planted-mf-narrow-25-seed0-")
    store = TrialStore(tmp_path)
    assert not is_kept(trial, tmp_path)
    counts = ("codebook_rows", "parameters", "parameters_full", "bytes", "bytes_full", "epochs", "best_epoch")
    content = {"machine": {}, "versions": {}, "figures": dict.fromkeys(counts, 7), "curve": [], "seconds": 1.0}
    store.write(former, {"status": "done", **content})
    assert is_kept(trial, tmp_path)
    (record,) = run_grid([trial], split, store).records
    assert record["run"] == trial.settings
    assert not store.path(trial).exists()


def test_a_former_name_plans_the_same_runs(split):
    with pytest.warns(FutureWarning, match="method 'narrow' is called 'low-dim' now"):
        assert trials_of(split, methods=["narrow"]) == trials_of(split, methods=["low-dim"])
    with pytest.warns(FutureWarning), pytest.raises(InputError, match="methods must be different values"):
        trials_of(split, methods=["narrow", "low-dim"])


def test_what_another_process_is_at_is_left_to_it(split, tmp_path):
    trials = trials_of(split)
    mine, theirs = TrialStore(tmp_path), TrialStore(tmp_path)
    with theirs.claim(trials[1]) as claimed:
        assert claimed
        outcome = run_grid(trials, split, mine)
    assert (outcome.unfinished, len(outcome.records)) == (1, 3)
    assert run_grid(trials, split, mine).unfinished == 0


def _claim_and_die(folder, trial):
    with TrialStore(folder).claim(trial):
        import os

        os._exit(9)


def test_a_killed_process_holds_nothing(split, tmp_path):
    trial = trials_of(split)[0]
    process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(tmp_path, trial))
    process.start()
    process.join()
    assert process.exitcode == 9
    with TrialStore(tmp_path).claim(trial) as claimed:
        assert claimed


def test_a_budget_out_of_reach_is_a_result_and_a_foreign_record_is_not(split, tmp_path):
    trials = trials_of(split, methods=["random"], budgets=[1], seeds=[0])
    (record,) = run_grid(trials, split, TrialStore(tmp_path)).records
    assert record["status"] == "failed"
    assert "rows" in record["reason"]
    (row,) = aggregate([record])
    assert (row["seeds"], row["reason"]) == (0, record["reason"])
    assert record["reason"] in as_markdown([row], record["versions"], record["machine"])
    path = TrialStore(tmp_path).path(trials[0])
    for text in ("{", '{"format": "something else"}'):
        path.write_text(text)
        with pytest.raises(InputError, match="expected the record of"):
            run_grid(trials, split, TrialStore(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version must be an integer from 1 to 1, got 99"),
        ({"status": "soon"}, "status must be one of 'done', 'failed', got 'soon'"),
        ({"status": "failed"}, "KeyError: 'reason'"),
        ({"status": "failed", "reason": 3}, "reason is a int"),
        ({"seconds": float("nan")}, "seconds must be a finite number of at least 0, got nan"),
        ({"machine": None}, "machine is a NoneType"),
        ({"figures": {}}, "KeyError: 'codebook_rows'"),
        ({"figures": None}, "TypeError"),
        ({"figures": {"parameters": -5}}, "parameters must be an integer at least 0, got -5"),
        ({"figures": {"recall@20": float("nan")}}, "recall@20 must be a finite number of at least 0, got nan"),
        ({"figures": {"seconds_training": "1"}}, "seconds_training must be a finite number"),
    ],
)
def test_a_record_of_what_no_run_makes_is_refused(split, tmp_path, change, message):
    (trial,) = trials_of(split, methods=["random"], budgets=[1], seeds=[0])
    store = TrialStore(tmp_path)
    counts = dict.fromkeys(("codebook_rows", "parameters", "parameters_full", "bytes", "bytes_full", "epochs"), 7)
    figures = {**counts, "best_epoch": 2, "recall@20": 0.1, "seconds_training": 0.5}
    content = {"machine": {}, "versions": {}, "status": "done", "figures": figures, "curve": [], "seconds": 1.5}
    assert store.write(trial, content) == store.read(trial)
    change = dict(change)
    if change.get("figures"):
        change["figures"] = {**figures, **change["figures"]}
    store.path(trial).write_text(json.dumps({**store.read(trial), **change}))
    with pytest.raises(InputError, match=re.escape(message)):
        store.read(trial)


def record(
    method, seed, recall, *, budget=0.25, data="beauty", model="lightgcn", parameters=576_000, measure="parameters"
):
    figures = {f"{name}@{k}": recall for name in ("recall", "recall_capped", "ndcg") for k in (10, 20, 50)}
    figures |= {"codebook_rows": 9000, "parameters": parameters, "parameters_full": 2_205_696, "bytes": 4 * parameters}
    figures["bytes_full"] = 4 * figures["parameters_full"]
    figures |= {"seconds_clustering": 0.1 + seed, "seconds_training": 3.0, "best_epoch": 4}
    clustering = {"embedding_dim": 64, "budget_measure": measure}
    run = {"data": data, "model": model, "budget": budget, "method": method, "clustering": clustering}
    machine = {"cpu": "one", "cores": "2", "date": "2026-01-01"}
    return {"run": run, "status": "done", "figures": figures, "machine": machine, "versions": {"numpy": "2"}}


def test_rows_are_means_and_deviations_beside_the_published_figures():
    records = [record("louvain", 0, 0.10), record("louvain", 1, 0.14), record("random", 0, 0.2)]
    louvain, random = aggregate(records)
    assert louvain["recall@20"] == pytest.approx(0.12)
    assert louvain["recall@20_sd"] == pytest.approx(0.02 * 2**0.5)
    assert (louvain["seeds"], random["recall@20_sd"]) == (2, 0.0)
    assert louvain["paper"]["recall_capped@10"] == pytest.approx(0.05776)
    assert not aggregate([record("louvain", 0, 0.1, parameters=100_000)])[0]["paper"], "of another budget"
    assert not aggregate([record("louvain", 0, 0.1, model="mf")])[0]["paper"], "of another model"
    assert order_agreement([louvain, random]) == (0, [("louvain", "random")])

    (first, _) = csv.DictReader(io.StringIO(as_csv([louvain, random])))
    assert float(first["recall_capped@10_paper"]) == pytest.approx(0.05776)
    text = as_markdown([louvain, random], {"numpy": "2"}, records[0]["machine"])
    assert "| louvain | 9,000 | 576,000 (26.1%) | 2.30 (26.1%) | 0.1200 ± 0.0283 |" in text
    assert "0 of 1 pairs of methods as in the paper; the other way round: louvain > random." in text


def test_the_report_is_written_whole(tmp_path):
    records = [record("full", 0, 0.2, budget=None), record("random", 0, 0.1)]
    rows, files = write_report(records, tmp_path)
    assert sorted(path.name for path in files) == ["comparison.csv", "comparison.json", "comparison.md"]
    assert json.loads((tmp_path / "comparison.json").read_text())["table"] == rows
    assert write_report(records, None) == (rows, [])


def test_pictures_name_every_method():
    def words(figure):
        figure.canvas.draw()
        return [text.get_text() for axes in figure.axes for text in axes.texts]

    records = [record("full", 0, 0.2, budget=None, parameters=2_205_696)]
    records += [record(method, 0, 0.1, budget=b, parameters=int(b * 2_205_696)) for b in (0.1, 0.25) for method in "ab"]
    rows = aggregate(records)
    assert {"full", "a", "b"} <= set(words(budget_figure(rows, "a title")))
    assert {"full", "a 10%", "b 25%"} <= set(words(seconds_figure(rows, "a title")))
    figure = comparison_figure([row for row in rows if row["budget"] in (None, 0.25)], "a title")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "full"]
    assert {"0.2000", "25.0%"} <= set(words(figure))
    assert figure.get_suptitle() == "a title"


def test_pictures_of_budgets_in_bytes_show_bytes():
    records = [record(method, 0, 0.1, parameters=220_570, measure="bytes") for method in "ab"]
    for one in records:
        one["figures"]["bytes_full"] *= 2
    bars = figures_of(aggregate(records), "a title")["comparison.png"]
    assert [text.get_text() for text in bars.axes[1].texts] == ["5.0%", "5.0%"]
    assert bars.axes[1].get_xlabel() == "bytes (millions)"
    records += [record("a", 0, 0.1, budget=0.1, parameters=110_285, measure="bytes")]
    lines = figures_of(aggregate(records), "a title")["comparison.png"]
    assert lines.axes[0].get_xlabel() == "share of the full table's bytes"


def test_budgets_of_parameters_and_of_bytes_have_tables_of_their_own():
    records = [record("full", 0, 0.2, budget=None)]
    records += [record("a", 0, recall, measure=name) for name, recall in (("parameters", 0.1), ("bytes", 0.15))]
    rows = aggregate(records)
    assert [(row["method"], row["measure"], row["recall@20"]) for row in rows] == [
        ("full", "parameters", 0.2),
        ("a", "parameters", 0.1),
        ("a", "bytes", 0.15),
    ]
    text = as_markdown(rows, {"numpy": "2"}, records[0]["machine"])
    _, one, other = text.split("## ")
    assert one.startswith("lightgcn on beauty at 25%\n")
    assert other.startswith("lightgcn on beauty at 25% of the bytes\n")
    assert one.count("| a |") == other.count("| a |") == one.count("| full |") == other.count("| full |") == 1


def test_a_method_of_its_own_size_makes_no_second_budget():
    records = [record("full", 0, 0.2, budget=None, parameters=2_205_696)]
    records += [record("a", 0, 0.1), record("own", 0, 0.05, budget=None, parameters=22_057)]
    rows = aggregate(records)
    names = [text.get_text() for axes in seconds_figure(rows, "a title").axes for text in axes.texts]
    assert sorted(names) == ["a", "full", "own 1%"]
    bars = figures_of(rows, "a title")["comparison.png"]
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == ["own", "a", "full"]


def test_budgets_whose_labels_would_meet_have_one():
    shares = (0.09, 0.1, 0.25, 0.5)
    rows = aggregate([record("a", 0, 0.1, budget=share, parameters=int(share * 2_205_696)) for share in shares])
    (axes,) = budget_figure(rows, "a title").axes
    assert axes.get_xticks().tolist() == [0.1, 0.25, 0.5]


def test_what_is_lost_is_drawn_against_bytes_of_all_methods_and_budgets():
    def row(method, share, recall, model="mf"):
        return {"model": model, "method": method, "bytes": 100 * share, "bytes_full": 100.0, "recall@20": recall}

    rows = [row("full", 1, 0.4), row("a", 0.25, 0.3), row("a", 0.1, 0.2), row("b", 0.5, 0.44)]
    figure = lost_figure([*rows, *({**each, "model": "lightgcn"} for each in rows)], "a $title")
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert axes.get_xscale() == "log"
        full, a, b = axes.lines
        assert set(full.get_ydata()) == {0}
        assert a.get_xdata().tolist() == [0.1, 0.25]
        assert a.get_ydata() == pytest.approx([50, 25])
        assert b.get_ydata() == pytest.approx([-10])
        low, high = axes.get_ylim()
        assert low > high  # what loses less is higher
        assert {"full", "a", "b"} <= {text.get_text() for text in axes.texts}
    assert "lost.png" in figures_of([{**each, "seeds": 1, "budget": 0.1, **COSTS} for each in rows], "a title")
    assert "lost.png" not in figures_of([{**each, "seeds": 1, "budget": 0.1, **COSTS} for each in rows[1:]], "a title")


COSTS = {"measure": "bytes", "recall@20_sd": 0.0, "seconds_clustering": 1.0, "parameters": 1.0, "parameters_full": 2.0}
