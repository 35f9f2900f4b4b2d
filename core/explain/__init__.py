"""`run.py plan --explain SIGNAL`: the chain of a signal's handlers, what is known of each, and what each makes of real data.

`chain` tells what can be known without running anything, `values` puts what handlers are given into words, `examples`
has the handlers of the data work on the configured data, and `request` brings them together on the terminal.
"""
