"""The train job: training, evaluation, curves and registration."""
