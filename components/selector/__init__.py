"""Step selector: the fastest candidate that is accurate enough, and why each other one lost."""
