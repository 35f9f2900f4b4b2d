"""The life of a run: the parts it is put together from, the loop, and what it leaves behind."""
