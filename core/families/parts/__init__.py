"""What families are made of: places, tokenizers, text encoders, layouts of files, and the base that they share."""
