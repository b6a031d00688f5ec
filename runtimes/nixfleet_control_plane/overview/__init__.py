"""How the fleet stands, in numbers and sentences, for screens: pure functions of the state and the time. No I/O."""
