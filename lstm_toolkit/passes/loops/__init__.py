"""The stock converter's `WHILE` loops become fused ops again."""
