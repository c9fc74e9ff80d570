"""What a tag does: check, build, rehearse, publish, and write the digest into `deploy/`."""
