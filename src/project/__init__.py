"""The team's own code: features, cleaning, metrics, rules and estimators. The machinery imports it, never changes it."""
