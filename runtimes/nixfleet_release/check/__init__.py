"""The rules a declaration must satisfy, and the checked values that satisfy them. Every problem is reported at once."""
