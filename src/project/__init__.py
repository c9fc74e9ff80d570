"""The team's own code: features, cleaning, metrics, rules and estimators; the machinery imports it."""
