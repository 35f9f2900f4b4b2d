"""`run.py events --write`: a page for each signal, made of the catalogue, the payloads and the plugins that come along."""
