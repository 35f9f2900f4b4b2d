"""What a run says: lines on the terminal and in files, without secrets."""
