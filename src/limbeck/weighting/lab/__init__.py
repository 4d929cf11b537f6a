"""The laboratory: the theory of the distillation weight, predicted and then measured."""
