"""The contract between the trainer and its plugins. What a plugin author needs is named here."""

from .lanes import in_process, in_thread
from .plugin import Plugin, PluginSettings
from .spec import Build, Notification, Transform
from .subscribe import build, on, transform
from .text_file import TextFile

__all__ = [
    "Build",
    "Notification",
    "Plugin",
    "PluginSettings",
    "TextFile",
    "Transform",
    "build",
    "in_process",
    "in_thread",
    "on",
    "transform",
]
