"""A package, so that the service ends with the last of these tests, not with all."""
