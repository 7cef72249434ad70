"""What the steps share about named entities: data format, labels, windows, span metrics. NumPy at most."""
