"""Guards of waves: whether what the judges said lets a wave begin. Pure; gates do not look here, the cursor does."""
