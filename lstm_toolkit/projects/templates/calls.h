#ifndef CALLS_H
#define CALLS_H

#include <cstddef>

#include "tensorflow/lite/c/common.h"

// An input or an output of the model, with its values in each call.
struct Edge {
  const char* name;
  TfLiteType type;
  size_t size;         // entries in a call
  size_t bytes;        // the same in bytes
  double tolerance;    // how far an output may be off, in the units of the model
  const void* values;  // [kCallCount][size]
};

constexpr int kCallCount = @{calls};
constexpr int kInputCount = @{inputs};
constexpr int kOutputCount = @{outputs};

extern const Edge kInputs[kInputCount];
extern const Edge kOutputs[kOutputCount];

#endif
