"""What another policy would have done to the releases of a log. Source: docs/spec/forecast.md, Back-tests."""
