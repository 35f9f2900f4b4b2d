"""Files of weights: what is in them, adapters, exports, and safe files made of pickled ones."""
