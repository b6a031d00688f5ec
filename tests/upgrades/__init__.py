"""Files of earlier versions, and what takes them to the current one."""
