"""ADDRESSES: an id as the rest of a path: any characters, line ends too, which `path` leaves out.

A router whose addresses hold `{id:any}` imports this module.
"""

from starlette.convertors import Convertor, register_url_convertor


class AnyConvertor(Convertor[str]):
    """All that follows, whatever it is."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it was decoded."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("any", AnyConvertor())
