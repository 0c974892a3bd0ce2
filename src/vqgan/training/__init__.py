"""Training of both stages: the only place with optimizers, training losses and distribution."""
