"""Runs that go on elsewhere: in a cloud, in a cluster. What is the same for all of them: the record, following, fetching."""
