"""Adapts losses and indexes of tilefold to the interfaces of other libraries, one module each.

This package imports none of them, so the dependencies of a module are needed only where it is used.
"""
