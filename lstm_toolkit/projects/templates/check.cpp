#include "check.h"

#include <cmath>
#include <cstring>

#include "calls.h"
#include "@{array}.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

// The model ran in @{measured} bytes on the computer that wrote this, and not in 16 less. Pointers have 64 bits there, and
// the interpreter of the Python package keeps records in the arena, so that a board of 32 bits needs less. Kernels made
// for one processor may need more: for these there is a quarter on top.
constexpr size_t kArenaSize = @{arena};
alignas(16) uint8_t arena[kArenaSize];

bool failed(const char* reason) {
  print_text("FAIL: ");
  print_text(reason);
  print_text("\n");
  return false;
}

double number_at(TfLiteType type, const void* values, size_t index) {
  switch (type) {
    case kTfLiteFloat32:
      return static_cast<const float*>(values)[index];
    case kTfLiteInt8:
      return static_cast<const int8_t*>(values)[index];
    case kTfLiteUInt8:
      return static_cast<const uint8_t*>(values)[index];
    case kTfLiteInt16:
      return static_cast<const int16_t*>(values)[index];
    case kTfLiteInt32:
      return static_cast<const int32_t*>(values)[index];
    case kTfLiteInt64:
      return static_cast<double>(static_cast<const int64_t*>(values)[index]);
    case kTfLiteBool:
      return static_cast<const bool*>(values)[index] ? 1 : 0;
    default:
      return NAN;
  }
}

bool fits(const TfLiteTensor* tensor, const Edge& edge) {
  return tensor != nullptr && tensor->type == edge.type && tensor->bytes == edge.bytes;
}

// The values of an input or output in one call.
const void* values_in(const Edge& edge, int call) {
  return static_cast<const uint8_t*>(edge.values) + call * edge.bytes;
}

// The largest difference of an output from the expected one, in the units of the model: for integers with a scale, of
// the numbers that they stand for.
double difference(const TfLiteTensor* tensor, const Edge& edge, int call) {
  const double scale = tensor->params.scale > 0 ? tensor->params.scale : 1;
  double largest = 0;
  for (size_t index = 0; index < edge.size; ++index) {
    const double expected = number_at(edge.type, values_in(edge, call), index);
    const double actual = number_at(edge.type, tensor->data.raw, index);
    if (expected == actual || (std::isnan(expected) && std::isnan(actual))) continue;
    const double distance = scale * std::fabs(expected - actual);
    largest = std::fmax(largest, std::isnan(distance) ? INFINITY : distance);
  }
  return largest;
}

bool report(const Edge& edge, double largest, int call) {
  print_text(edge.name);
  print_text(": largest difference ");
  print_number(largest);
  print_text(" in call ");
  print_number(call + 1);
  print_text(", allowed ");
  print_number(edge.tolerance);
  print_text("\n");
  return largest <= edge.tolerance;
}

}  // namespace

bool check_model() {
  const tflite::Model* model = tflite::GetModel(@{array});
  if (model->version() != TFLITE_SCHEMA_VERSION) return failed("the library reads another version of the format");
@{resolver}
  static tflite::MicroInterpreter interpreter(model, resolver, arena, kArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) return failed("the arena is too small, or an op is not there");
  print_text("bytes of the arena in use: ");
  print_number(static_cast<double>(interpreter.arena_used_bytes()));
  print_text("\n");

  double largest[kOutputCount] = {};
  int worst_call[kOutputCount] = {};
  for (int call = 0; call < kCallCount; ++call) {
    for (int k = 0; k < kInputCount; ++k) {
      TfLiteTensor* input = interpreter.input(k);
      if (!fits(input, kInputs[k])) return failed("an input has another type or size");
      std::memcpy(input->data.raw, values_in(kInputs[k], call), kInputs[k].bytes);
    }
    if (interpreter.Invoke() != kTfLiteOk) return failed("Invoke");
    for (int k = 0; k < kOutputCount; ++k) {
      const TfLiteTensor* output = interpreter.output(k);
      if (!fits(output, kOutputs[k])) return failed("an output has another type or size");
      const double found = difference(output, kOutputs[k], call);
      if (found > largest[k]) {
        largest[k] = found;
        worst_call[k] = call;
      }
    }
  }

  bool is_right = true;
  for (int k = 0; k < kOutputCount; ++k) is_right &= report(kOutputs[k], largest[k], worst_call[k]);
  print_text(is_right ? "PASS\n" : "FAIL\n");
  return is_right;
}
