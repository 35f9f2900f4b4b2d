"""The live view: one page about a run, served from the run's files by a process of its own, which loads no torch."""
