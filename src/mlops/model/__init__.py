"""Models and their evaluation: estimators, tuning, metrics, model files. It imports `data`, `inference` and `core`."""
