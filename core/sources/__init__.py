"""Where pictures come from: folders and lists, captions and settings, before any picture has been opened."""
