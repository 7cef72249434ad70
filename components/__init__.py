"""The steps: one folder each, with its KFP interface, its code and its locked requirements."""
