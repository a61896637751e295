#ifndef CHECK_H
#define CHECK_H

// Runs the model on inputs whose right outputs are known, several calls in a row, and prints the largest difference.
// Returns whether each output is as near as it has to be.
bool check_model();

// What check_model prints with; each board has its own.
void print_text(const char* text);
void print_number(double number);

#endif
