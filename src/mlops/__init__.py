"""A model life cycle in Git: pull requests decide, tags deploy."""
