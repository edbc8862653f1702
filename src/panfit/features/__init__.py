"""FEATURES: Dataset -> arrays. Photos, text vectors, stored maps, and the `ItemInputs` that the model is fed from."""
