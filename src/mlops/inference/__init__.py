"""What a release ships beside the service: contract, runtime, provenance, safe loading. It imports `core` only."""
