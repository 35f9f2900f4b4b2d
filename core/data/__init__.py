"""From folders of pictures to batches on the device: scan, plan, load, collate."""
