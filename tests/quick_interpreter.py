"""Triton's interpreter without what takes nearly half of its time and changes nothing.

Each call of a device function would patch triton.language anew, which the launch has done, and each sum and product of
integers is taken twice, for an assertion that is left out where `debug` is off. What this Triton does not have stays.
"""

import dataclasses

from triton.runtime import interpreter


def hurry() -> None:
    _patch_once_a_launch()
    options = getattr(interpreter.interpreter_builder, "options", None)
    if hasattr(options, "sanitize_overflow") and not getattr(options, "debug", True):
        interpreter.interpreter_builder.options = dataclasses.replace(options, sanitize_overflow=False)


def _patch_once_a_launch() -> None:
    """What is patched depends on the module of the function alone; the launch ends with everything put back."""
    if not hasattr(interpreter, "_patch_lang"):
        return
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[int] = set()

    def call(self, *arguments, **options):
        patched.clear()
        return launch(self, *arguments, **options)

    def patch_once(function):
        module = id(function.__globals__)
        if module in patched:
            return None
        patched.add(module)
        return patch(function)

    interpreter.GridExecutor.__call__, interpreter._patch_lang = call, patch_once
