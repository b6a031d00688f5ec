"""Tells what a run showed: its report and story, crash points, and a smaller scenario that fails alike."""
