"""The forms of tests: assertions, pytest, unittest, doctest, inputs and outputs."""
