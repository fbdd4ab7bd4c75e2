"""Holdfast and HTTP: the only floor that knows web frameworks, each in a module of its own."""
