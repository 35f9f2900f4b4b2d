"""What goes wrong between the bus and a plugin, as errors that name the plugin, the signal and the place."""


class AttachError(Exception):
    """One or more handlers do not fit the catalogue; `problems` holds every one, found before anything runs."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PluginError(Exception):
    """A handler failed; the plugin's own exception is the `__cause__`."""

    def __init__(self, message: str, *, plugin: str, signal: str) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.signal = signal


class ReturnedWrong(Exception):
    """A transform or build handler returned nothing, or something its signal does not carry."""


class BusClosed(Exception):
    """A signal fired where none may: inside the closed step (P8), or a plugin's own signal from the background."""


class BusSealed(Exception):
    """A handler was connected after the plan was printed and the bus was sealed."""


class UnknownSignal(LookupError):
    """The bus was asked for a signal that neither the catalogue nor a plugin's `declares` holds."""


class LaneStuck(Exception):
    """An async handler did not finish its events in time; they are given up."""


class HandlerHung(BaseException):  # beyond `except Exception`, which a hanging loop may hold
    """A handler took longer than the limit and was broken off; it is raised within the handler."""

    def __init__(self, message: str, *, plugin: str, signal: str, label: str) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.signal = signal
        self.label = label

    def is_of(self, plugin: str, signal: str, label: str) -> bool:
        return (self.plugin, self.signal, self.label) == (plugin, signal, label)


class CollectiveRefused(Exception):
    """A plugin wanted to exchange something between ranks where they do not all come by."""


class ControlError(ValueError):
    """A plugin asked the run for something it cannot do; the message says what it can."""
