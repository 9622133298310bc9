"""What users hold: the estimator, and the result that it gives."""
