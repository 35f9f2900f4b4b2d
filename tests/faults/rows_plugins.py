"""Plugins that fail: while they load, while they run, and in what they leave behind."""

from . import rows_plugins_failing, rows_plugins_hanging, rows_plugins_leavings, rows_plugins_loading

__all__ = ["rows_plugins_failing", "rows_plugins_hanging", "rows_plugins_leavings", "rows_plugins_loading"]
