"""Step `backbone`: lays out the folder of pretrained weights that training starts from."""
