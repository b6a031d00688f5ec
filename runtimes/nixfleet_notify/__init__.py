"""Notifications: a reader of a control plane's log that tells others, by webhooks and programs."""
