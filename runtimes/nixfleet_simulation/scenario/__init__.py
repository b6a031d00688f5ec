"""What a run is made of, drawn from one seed: the fleet, its faults and the acts that happen to it. Data only."""
