#include <cstdio>

#include "check.h"
#include "tensorflow/lite/micro/system_setup.h"

void print_text(const char* text) { std::printf("%s", text); }
void print_number(double number) { std::printf("%.9g", number); }

int main() {
  tflite::InitializeTarget();
  return check_model() ? 0 : 1;
}
