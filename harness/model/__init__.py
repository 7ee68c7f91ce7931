"""The words of the harness: frozen values and enumerations, nothing that acts."""
