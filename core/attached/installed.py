"""Plugins that installed packages offer by a name of their own: the entry points of the group `signalbox.plugins`.

Looking for one reads what the packages say about themselves, and imports none of them.
"""

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

GROUP = "signalbox.plugins"
MOST_LISTED = 8


def find_installed(name: str) -> tuple[str, str]:
    """(module, class) of the plugin that an installed package offers under this name.

    Raises LookupError with a sentence when none does, when two do, and when what it offers is no class of a module.
    """
    offers = sorted(entry_points(group=GROUP, name=name), key=_package)
    if not offers:
        raise LookupError(f"no installed package offers a plugin of this name{_hint(name)}")
    offer, *others = offers
    if others:
        packages, classes = (", ".join(map(word, offers)) for word in (_package, _class_path))
        raise LookupError(f"several installed packages offer it: {packages}; name the class that is meant: {classes}")
    module, colon, class_name = offer.value.partition(":")
    if not colon:
        raise LookupError(f"package {_package(offer)} offers {offer.value!r}; an entry point is written module:Class")
    return module.strip(), class_name.partition("[")[0].strip()


def _hint(name: str) -> str:
    known = sorted({offer.name for offer in entry_points(group=GROUP)})
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    listed = f"; they offer {', '.join(known[:MOST_LISTED])}{', ...' * (len(known) > MOST_LISTED)}" if known else ""
    return f"{listed}; a class is named with its module, as in package.module.Class"


def _package(offer: EntryPoint) -> str:
    return (offer.dist.name if offer.dist is not None else "") or offer.value


def _class_path(offer: EntryPoint) -> str:
    return offer.value.replace(":", ".")
