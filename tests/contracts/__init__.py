"""What every way of doing a thing must keep, written once: subclass the contract and say how to make yours."""

import pytest

pytest.register_assert_rewrite("tests.contracts.search_contract")
