"""Weights out and in: our encoder as a file other libraries load by key name, and back."""
