"""A picture file: its header, its colours and orientation, and the part of it that is trained on."""
