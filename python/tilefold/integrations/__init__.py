"""Losses and indexes of tilefold behind the interfaces of other libraries, a module for each.

None is imported from here, so what one of them needs is needed by those alone who import it.
"""
