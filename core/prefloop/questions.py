"""The old place of `prefloop_plugins.questions`."""

from prefloop.deprecated import moved

__getattr__ = moved(__name__, {"*": "prefloop_plugins.questions"})
