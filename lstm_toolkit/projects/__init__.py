"""Projects to flash: they run a file on a board and compare what comes out there with what came out here."""
