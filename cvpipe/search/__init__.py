"""Hyperparameter search and cross-validation: many runs of one pipeline, compared."""
