"""Step `trainer`: fine-tunes a backbone to label the tokens of whole documents."""
