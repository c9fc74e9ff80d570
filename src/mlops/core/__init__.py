"""The ground floor: errors, files, settings, Git and GitHub. It imports no other package of mlops."""
