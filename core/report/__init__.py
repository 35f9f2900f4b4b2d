"""What `run.py data` tells of the data a run would train on: a report, a contact sheet, and the plan as a file."""
