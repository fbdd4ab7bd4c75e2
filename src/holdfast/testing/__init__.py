"""Tools for testing services that use holdfast, and holdfast itself."""

from holdfast.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
