"""Evaluation: what the features of a trained encoder are worth. Never imports training."""
