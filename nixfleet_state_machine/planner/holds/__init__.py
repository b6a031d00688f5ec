"""What keeps hosts from beginning: holds by scope and source, and the calendar that begins and ends some of them."""
