"""The campaign is a program; its tests are in the files named so, and nothing else here is collected."""

collect_ignore_glob = ["[!t]*.py"]
