"""The ground floor: errors, files, settings, the lock, Git and GitHub. It imports no other package of `mlops`."""
