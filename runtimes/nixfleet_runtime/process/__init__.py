"""The process: notifications to the service manager, and settings of the garbage collector."""
