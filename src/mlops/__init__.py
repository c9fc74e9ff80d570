"""A GitOps template for machine learning. The team's code in `src/project/` imports its decorators from here."""

from mlops.core.hooks import feature as feature
from mlops.core.hooks import keep_rows as keep_rows
from mlops.core.hooks import metric as metric
from mlops.core.hooks import rule as rule
from mlops.core.ruling import Evidence as Evidence
from mlops.core.ruling import Verdict as Verdict
from mlops.core.ruling import failed as failed
from mlops.core.ruling import inconclusive as inconclusive
from mlops.core.ruling import passed as passed
