"""What several files of `src/project/` share. It imports nothing else of the package."""
