"""What both databases share: the SQLite helper, the instance lock, the codec of stored records."""
