"""Step dataset: the user's folder, or generated résumés, as one canonical dataset with a manifest and a profile."""
