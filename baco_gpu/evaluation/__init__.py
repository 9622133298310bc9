"""How well a model ranks what was held out."""

from baco_gpu.evaluation.ranking import evaluate_ranking, top_items

__all__ = ["evaluate_ranking", "top_items"]
