"""What production reports: the prediction log and labels, compared with what the release recorded."""
