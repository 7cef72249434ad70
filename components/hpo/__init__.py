"""Step `hpo`: searches hyperparameters with Optuna; an interrupted search goes on where it stood."""
