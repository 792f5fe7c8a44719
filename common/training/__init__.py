"""The engine and what a training step is made of. It knows no method."""
