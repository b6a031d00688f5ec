"""A second implementation of what people decide: calendars, and guards of waves."""
