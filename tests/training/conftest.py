"""Fixtures: graphs on the CPU."""

import pytest
from fake_graphs import record_on_the_cpu


@pytest.fixture
def graphs_made(monkeypatch):
    """Let passes and steps be recorded on the CPU; the list of their graphs."""
    return record_on_the_cpu(monkeypatch)
