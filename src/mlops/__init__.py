"""A GitOps template for machine learning; `from mlops import feature` is what the team's code in `src/project/` needs."""

from mlops.core.hooks import feature as feature
