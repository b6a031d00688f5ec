"""What a service is to its machine: the service manager's protocol and the garbage collector's settings."""
