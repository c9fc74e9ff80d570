"""What a tag ships: the service and batch scoring. They import neither the pipeline nor the review."""
