"""Step benchmarker: speed and scores of every candidate, on the same documents, in the same process layout."""
