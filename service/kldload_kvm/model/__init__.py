"""What things are and how decisions are made: frozen dataclasses and pure functions. No I/O here."""
