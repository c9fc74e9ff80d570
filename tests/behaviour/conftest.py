"""What behaviour tests start from: `model`, `train`, `test` and `example`."""

from mlops.model.behaviour import example, model, test, train

__all__ = ["example", "model", "test", "train"]
