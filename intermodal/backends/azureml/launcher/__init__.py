"""What runs in a node of an AzureML pipeline job: decides about its leaf with the engine's own code, runs it, reads what it wrote.

Python 3.9 and the standard library only: it travels as a code asset, into images that have nothing else of ours.
"""
