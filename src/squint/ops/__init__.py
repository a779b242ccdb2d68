"""Pure mathematics: tensors in, tensors out. No settings, no module state, no logging."""
