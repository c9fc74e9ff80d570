"""A GitOps template for machine learning. The team's code in `src/project/` imports its decorators from here."""

from mlops.core.hooks import feature as feature
from mlops.core.hooks import metric as metric
