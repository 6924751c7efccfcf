"""A carrier and its phones to try the gateway against: `python -m simulator`, or `Simulator` in a test."""

from simulator.network import Simulator

__all__ = ["Simulator"]
