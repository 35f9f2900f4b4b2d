"""Features, one file each. `plugins.plugins` holds BasePlugin, for plugins in the class style."""
