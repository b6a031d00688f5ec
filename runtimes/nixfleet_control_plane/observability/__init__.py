"""What a monitoring system is told: gauges, and the dashboard and alert rules that are made from their definitions."""
