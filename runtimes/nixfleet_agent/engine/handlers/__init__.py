"""One module for each group of inputs of the engine; the engine itself says which input goes where."""
