#include <cstdio>

#include "check.h"

void print_text(const char* text) { std::printf("%s", text); }
void print_number(double number) { std::printf("%.9g", number); }

extern "C" void app_main(void) { check_model(); }
