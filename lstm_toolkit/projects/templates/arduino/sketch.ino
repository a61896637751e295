#include <Chirale_TensorFlowLite.h>

#include "check.h"

void print_text(const char* text) { Serial.print(text); }
void print_number(double number) { Serial.print(number, number == floor(number) ? 0 : 9); }

void setup() {
  Serial.begin(115200);
  // Boards with USB of their own wait here until somebody listens.
  while (!Serial) {
  }
  check_model();
}

void loop() {}
