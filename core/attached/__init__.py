"""What the trainer does with the plugins that are attached: lists them, checks them, guards what they may touch."""
